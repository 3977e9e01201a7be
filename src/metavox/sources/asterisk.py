"""Telephone prompts: the same lines in five languages, and three more speakers for some of them."""

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
# The name of another prompt inside a text: the list lost the end of a line there.
ENTRY = re.compile(r"(?:^|(?<=[\s.]))([a-z0-9]+(?:[-/_][a-z0-9]+)+):")
# Slips in the text lists that the order of the list or another language's line settles.
CORRECTIONS = {
    ("es", "digits/0", "diez"): ("digits/10", "diez"),
    ("fr", "digits/h-16", "seixième"): ("digits/h-16", "seizième"),
    ("fr", "digits/h-80", "soixante-dixième"): ("digits/h-80", "quatre-vingtième"),
    ("ru", "digits/mon-9", "октрября"): ("digits/mon-9", "октября"),
    ("it", "letters/at", "a [@]"): ("letters/at", ""),  # what is said for @ is not written
    ("it", "is", "Is."): ("is", ""),  # left in English
    # Prompts whose file has another name than their line.
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
# Accented letters that the Italian list has lost to question marks.
LOST = {"sar?": "sarà", "pu?": "può", "cos?": "così", "pi?": "più", " ? ": " è "}
# For these two speakers only the names are known to say the same as the core prompts of that name.
NAMED_ALIKE = re.compile(
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
        # They say something else than the list, to judge by their length.
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
        only=NAMED_ALIKE,
    ),
    Speaker(
        "asterisk-prompt-es-co",
        "es",
        "es",
        "asterisk-es-co",
        "GPL-2",
        environment="gsm",
        suffix=".gsm",
        only=NAMED_ALIKE,
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
    """Prompt name in lower case -> its line in the package's list, then other texts the list has for it."""
    (path,) = (package / "usr/share/doc").glob("*/core-sounds-*.txt.gz")
    own: dict[str, list[str]] = {}
    inside: list[tuple[str, str]] = []
    for line in gzip.decompress(path.read_bytes()).decode("utf-8-sig").splitlines():
        name, colon, rest = line.partition(":")
        if not colon or name.startswith(";"):
            continue
        text, *others = ENTRY.split(rest)
        inside += zip(others[::2], others[1::2], strict=True)
        _tell(own, language, name, text)
    for name, text in inside:  # after all others, for a line of its own counts more
        _tell(own, language, name, text)
    return {name: tuple(texts) for name, texts in own.items()}


def _tell(texts: dict[str, list[str]], language: str, name: str, text: str) -> None:
    name, text = name.strip(), text.strip()
    if language == "it":
        for lost, meant in LOST.items():
            text = text.replace(lost, meant)
    name, text = CORRECTIONS.get((language, name, text), (name, text))
    told = texts.setdefault(name.lower(), [])
    if text and text not in told:
        told.append(text)


def clean(text: str, language: str) -> tuple[str, str]:
    """(text as spoken, its kind); an empty text where nothing is spoken.

    Brackets hold stage directions or symbols. Inside a sentence they may also hold a word that was spoken,
    so a line that loses one there is only `inferred`.
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
            kind = "inferred"  # either may be what is said
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
    holds="telephone prompts in en, es, fr, it, ru by 8 speakers",
    recordings=recordings,
)
assert set(DIGITS) >= {speaker.language for speaker in SPEAKERS}
