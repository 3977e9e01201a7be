"""Asterisk telephone prompts: the same lines in five languages, some of them by three more speakers."""

import gzip
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metavox.sources.base import DIGITS, Recording, Source, spell_digits, unit_of

TEXTS = "asterisk-core-sounds-{}"
FOLDER = "usr/share/asterisk/sounds"
NOT_SPEECH = re.compile(
    r"^(beep|beeperr|ascending-2tone|descending-2tone|tt-monkeys|confbridge-(join|leave)|silence/.*)$"
)
# The name of another prompt inside a text, where the list lost a line break.
ENTRY = re.compile(r"(?:^|(?<=[\s.]))([a-z0-9]+(?:[-/_][a-z0-9]+)+):")
# Errors in the text lists; the order of the list or the line in another language shows what is right.
CORRECTIONS = {
    ("es", "digits/0", "diez"): ("digits/10", "diez"),
    ("fr", "digits/h-16", "seixième"): ("digits/h-16", "seizième"),
    ("fr", "digits/h-80", "soixante-dixième"): ("digits/h-80", "quatre-vingtième"),
    ("ru", "digits/mon-9", "октрября"): ("digits/mon-9", "октября"),
    ("it", "letters/at", "a [@]"): ("letters/at", ""),  # the spoken name of @ is not given
    ("it", "is", "Is."): ("is", ""),  # not translated
    # Prompts whose file name differs from the name in the list.
    ("es", "confbridge-lock-out-0", "...para bloquear o desbloquear la conferencia."): (
        "confbridge-lock-out",
        "...para bloquear o desbloquear la conferencia.",
    ),
    ("fr", "confbridge-lock-out-0", "... pour vérouiller ou déverrouiller la conférence."): (
        "confbridge-lock-out",
        "... pour verrouiller ou déverrouiller la conférence.",
    ),
    ("fr", "dollars", "dollars"): ("digits/dollars", "dollars"),
    ("en", "letters/exclaimation-point", "exclaimation point [!]"): (
        "letters/exclaimation-point",
        "exclamation point",
    ),
}
# Accented letters that became question marks in the Italian list.
LOST_ACCENTS = {"sar?": "sarà", "pu?": "può", "cos?": "così", "pi?": "più", " ? ": " è "}
# For two speakers there is no list; only prompts with these names are known to say the same as the core prompts.
SAME_AS_CORE = re.compile(
    r"^(digits/(\d+|day-\d|mon-\d+|today|tomorrow|yesterday|thousand|million|minus)|letters/[a-z])$"
)

BY_SA = "CC-BY-SA-3.0"


@dataclass(frozen=True)
class Speaker:
    package: str
    folder: str  # under FOLDER
    language: str
    name: str
    license: str
    speaker_group: str = ""
    environment: str = "telephone"
    suffix: str = ".wav"
    only: re.Pattern[str] | None = None
    leave_out: frozenset[str] = frozenset()


SPEAKERS = (
    Speaker("asterisk-core-sounds-en-wav", "en_US_f_Allison", "en", "asterisk-en-allison", BY_SA, "allison"),
    Speaker("asterisk-core-sounds-es-wav", "es_MX_f_Allison", "es", "asterisk-es-allison", BY_SA, "allison"),
    Speaker("asterisk-core-sounds-fr-wav", "fr_CA_f_June", "fr", "asterisk-fr-june", BY_SA),
    Speaker("asterisk-core-sounds-it-wav", "it_IT_m_Carlo", "it", "asterisk-it-carlo", "CC-BY-3.0"),
    Speaker("asterisk-core-sounds-ru-wav", "ru_RU_f_IvrvoiceRU", "ru", "asterisk-ru-ivrvoice", "CC-BY-3.0"),
    Speaker(
        "asterisk-prompt-it-menardi-wav",
        "it_IT_f_Menardi",
        "it",
        "asterisk-it-menardi",
        BY_SA,
        # Their length shows that they do not say what the list says.
        leave_out=frozenset({"demo-thanks", "conf-roll-callcomplete", "queue-thankyou"}),
    ),
    Speaker(
        "asterisk-prompt-fr-armelle",
        "fr",
        "fr",
        "asterisk-fr-armelle",
        "BSD-3-Clause",
        environment="gsm",
        suffix=".gsm",
        only=SAME_AS_CORE,
    ),
    Speaker(
        "asterisk-prompt-es-co",
        "es",
        "es",
        "asterisk-es-co",
        "GPL-2",
        environment="gsm",
        suffix=".gsm",
        only=SAME_AS_CORE,
    ),
)


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    texts = {
        language: prompt_texts(unpacked[TEXTS.format(language)], language)
        for language in sorted({speaker.language for speaker in SPEAKERS if speaker.package in unpacked})
    }
    for speaker in SPEAKERS:
        if speaker.package in unpacked:
            yield from _of_speaker(speaker, unpacked[speaker.package], texts[speaker.language])


def prompt_texts(package: Path, language: str) -> dict[str, tuple[str, ...]]:
    """Prompt name in lower case -> its text in the package's list, followed by any other texts that the list has for it."""
    (path,) = (package / "usr/share/doc").glob("*/core-sounds-*.txt.gz")
    texts: dict[str, list[str]] = {}
    embedded: list[tuple[str, str]] = []
    for line in gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines():
        name, colon, rest = line.partition(":")
        if not colon or name.startswith(";"):
            continue
        text, *others = ENTRY.split(rest)
        embedded += zip(others[::2], others[1::2], strict=True)
        _add_text(texts, language, name, text)
    for name, text in embedded:  # last, because an entry on its own line is more reliable
        _add_text(texts, language, name, text)
    return {name: tuple(variants) for name, variants in texts.items()}


def _add_text(texts: dict[str, list[str]], language: str, name: str, text: str) -> None:
    name, text = name.strip(), text.strip()
    if language == "it":
        for lost, letters in LOST_ACCENTS.items():
            text = text.replace(lost, letters)
    name, text = CORRECTIONS.get((language, name, text), (name, text))
    variants = texts.setdefault(name.lower(), [])
    if text and text not in variants:
        variants.append(text)


def clean(text: str, language: str) -> tuple[str, str]:
    """(text as spoken, text kind); the text is empty if nothing is spoken.

    Brackets contain stage directions or symbols. Within a sentence they may also contain a spoken word, so a line that
    loses brackets there is only `inferred`.
    """
    kind = "spoken"
    for match in re.finditer(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)", text):
        rest = text[match.end() :].strip(" .")
        if rest and any(c.isalpha() for c in match.group()):
            kind = "inferred"
    text = re.sub(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)", " ", text)
    text = re.sub(r"\.\.+", " ", text)
    if text.count('"') % 2:
        text = text.replace('"', "")
    text = re.sub(r"\s+([.,])", r"\1", " ".join(text.split())).strip(" ,")
    spelled = spell_digits(text, language)
    if spelled is None or "*" in text or "#" in text:
        kind = "inferred"
    return (spelled or text) if any(c.isalpha() for c in text) else "", kind


def _of_speaker(speaker: Speaker, package: Path, texts: Mapping[str, tuple[str, ...]]) -> Iterator[Recording]:
    root = package / FOLDER / speaker.folder
    for path in sorted(root.rglob(f"*{speaker.suffix}")):
        name = path.relative_to(root).with_suffix("").as_posix()
        key = name.lower()
        if not texts.get(key) or NOT_SPEECH.match(key) or key in speaker.leave_out:
            continue
        if speaker.only and not speaker.only.match(key):
            continue
        text, kind = clean(texts[key][0], speaker.language)
        if not text:
            continue
        if len(texts[key]) > 1:
            kind = "inferred"  # either text may be the spoken one
        yield Recording(
            name=f"{speaker.name}/{name}{speaker.suffix}",
            data=path.read_bytes(),
            text=text,
            speaker=speaker.name,
            language=speaker.language,
            unit=_unit(key, text, speaker.language),
            license=speaker.license,
            text_kind=kind,
            speaker_group=speaker.speaker_group,
            environment=speaker.environment,
        )


def _unit(key: str, text: str, language: str) -> str:
    if re.fullmatch(r"digits/\d[a-z]?", key) or key in ("digits/oh", "phonetic/9_p"):
        return "digit"
    if re.fullmatch(r"letters/([a-z]|zed)", key):
        return "letter"
    return unit_of(text, language)


SOURCE = Source(
    name="asterisk",
    packages=tuple(sorted({TEXTS.format(v.language) for v in SPEAKERS} | {v.package for v in SPEAKERS})),
    license="CC-BY-SA-3.0, CC-BY-3.0, GPL-2, BSD-3-Clause",
    description="telephone prompts in en, es, fr, it, ru by 8 speakers",
    recordings=recordings,
)
assert set(DIGITS) >= {speaker.language for speaker in SPEAKERS}
