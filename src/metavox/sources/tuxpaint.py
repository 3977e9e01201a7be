"""Tux Paint's stamps: descriptions of pictures in 14 languages, and the ten digits in 21.

`X_desc_LANG.ogg` reads out the line `LANG.utf8=` of `X.txt`, whose first line is English. Most recordings are from 2006
to 2010, but the texts kept changing, so texts that are too long for their recording are left out. The package's change
log names the speakers. `X.ogg` is the sound that a thing makes, except for digits.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import soundfile

from metavox.sources.base import DIGITS, Recording, Source, plain, spell_digits, unit_of

PACKAGE = "tuxpaint-stamps-default"
FILE = re.compile(
    r"(?P<stem>.+?)(?P<description>_desc)?(?:_(?P<locale>[a-z]{2}(?:_[A-Za-z]{2})?))?\.(?:ogg|wav)"
)
DIGIT = re.compile(r"symbols/math/(\d)")
LETTER = re.compile(
    r"symbols/alphabets/(english|asl)/(?:.*/)?(?:asl_|asl_zzz_)?([A-Za-z\d])(?:_filled|_outline)?"
)
ARTICLE = re.compile(r"(een|uma?|twee)\s", re.IGNORECASE)


@dataclass(frozen=True)
class Speaker:
    """How to read a speaker's texts. A text with more than `max_chars_per_s` was not spoken in full."""

    max_chars_per_s: float
    kind: str = "spoken"
    letter_only: tuple[str, ...] = ()  # alphabets for which the speaker says the letter alone
    no_article: bool = False


# Each rate is the upper end of the speaker's own distribution. The texts of `inferred` speakers have changed most.
SPEAKERS = {
    "": Speaker(20),
    "be": Speaker(14),
    "bg": Speaker(21),
    "ca": Speaker(21.5, "inferred", letter_only=("english", "asl")),
    "da": Speaker(22, "inferred"),
    "el": Speaker(16, "inferred", letter_only=("english", "asl")),
    "en_GB": Speaker(20, letter_only=("english",)),
    "es": Speaker(20),
    "fr": Speaker(24, letter_only=("english",)),
    "lt": Speaker(20, letter_only=("english",)),
    "ml": Speaker(20),
    "nl": Speaker(18, "inferred", no_article=True),  # 0.3 s for 'Een hond.' means that only 'hond' is spoken
    "pt_BR": Speaker(18, "inferred", no_article=True),
    "ro": Speaker(20.5),
    "ru": Speaker(20),
}
LANGUAGES = {"": "en", "en_GB": "en", "pt_BR": "pt", "zh_tw": "zh"}
# By the change log, another person speaks the digits than the rest, except perhaps for these.
PERHAPS_SAME_SPEAKER = {"", "be", "ca", "en_GB", "lt", "nl"}
ALPHABETS = "symbols/alphabets"
LEAVE_OUT = {  # the text names another letter
    ("ro", f"{ALPHABETS}/english/filled/uppercase/N_filled"),
    ("ro", f"{ALPHABETS}/english/outlined/uppercase/N_outline"),
    ("es", f"{ALPHABETS}/german/filled/uppercase/O_with_umlaut_filled"),
    ("es", f"{ALPHABETS}/german/outlined/uppercase/O_with_umlaut_outline"),
}


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    root = unpacked[PACKAGE] / "usr/share/tuxpaint/stamps"
    seen: set[tuple[str, str]] = set()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".ogg", ".wav")):
        match = FILE.fullmatch(path.relative_to(root).as_posix())
        if not match:
            continue
        locale, stem = match["locale"] or "", match["stem"]
        data = path.read_bytes()
        key = (locale, hashlib.sha256(data).hexdigest())
        described = bool(match["description"])
        content = (
            _description(root, stem, locale, data) if described else _digit_or_letter(root, stem, locale)
        )
        # Variants of a stamp share a recording, and so do letters in both cases.
        if content is None or key in seen or (locale, stem) in LEAVE_OUT:
            continue
        seen.add(key)
        text, unit, kind = content
        numbers = not described and locale != "en_GB" and bool(DIGIT.fullmatch(stem))
        name = f"tuxpaint-{locale or 'en'}"
        yield Recording(
            name=path.relative_to(root).as_posix(),
            data=data,
            text=text,
            speaker=f"{name}-numbers" if numbers else name,
            language=_language(locale),
            unit=unit,
            license="GPL-2+",
            text_kind=kind,
            speaker_group=name if locale in PERHAPS_SAME_SPEAKER else "",
        )


def texts(path: Path) -> dict[str, str]:
    """Locale as the file writes it -> text. The locale of English is empty."""
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    by_locale = {"": lines[0].strip()} if lines else {}
    for line in lines[1:]:
        locale, mark, text = line.partition(".utf8=")
        if mark and text.strip():
            by_locale[locale.strip()] = text.strip()
    return by_locale


def _description(root: Path, stem: str, locale: str, data: bytes) -> tuple[str, str, str] | None:
    """(text, unit, text kind) of a description; None if it is unknown or too long for the recording."""
    speaker, language = SPEAKERS.get(locale), _language(locale)
    if speaker is None:
        return None
    letter = LETTER.fullmatch(stem)
    if letter and letter[1] in speaker.letter_only:
        return _named(letter[2], language)
    text = texts(root / f"{stem}.txt").get(locale, "")
    if "=" in text or (speaker.letter_only and stem.startswith(f"{ALPHABETS}/german/")):
        return None
    cleaned = re.sub(r"\s*\([^)]*\)", "", text)
    kind = speaker.kind if cleaned == text else "inferred"
    if speaker.no_article:
        cleaned = ARTICLE.sub("", cleaned, count=1)
    spelled = spell_digits(cleaned, language)
    text = " ".join((spelled or cleaned).split())
    if not any(c.isalpha() for c in text) or len(plain(text)) > speaker.max_chars_per_s * duration_s(data):
        return None
    unit = "digit" if DIGIT.fullmatch(stem) else unit_of(text, language)
    return text, unit, kind if spelled else "inferred"


def _digit_or_letter(root: Path, stem: str, locale: str) -> tuple[str, str, str] | None:
    """(text, unit, text kind) of a digit or an English letter; None for anything else, which is a noise."""
    language = _language(locale)
    letter = LETTER.fullmatch(stem)
    if locale == "en_GB" and letter:
        return _named(letter[2], language)
    if not DIGIT.fullmatch(stem):
        return None
    text = texts(root / f"{stem}.txt").get("zh_TW" if locale == "zh_tw" else locale, "")
    return (text, "digit", "spoken") if text else None


def _named(letter: str, language: str) -> tuple[str, str, str]:
    if letter.isdigit():
        return DIGITS[language][int(letter)], "digit", "inferred"
    return letter.lower(), "letter", "spoken"


def _language(locale: str) -> str:
    return LANGUAGES.get(locale, locale)


def duration_s(data: bytes) -> float:
    return float(soundfile.info(io.BytesIO(data)).duration)


SOURCE = Source(
    name="tuxpaint",
    packages=(PACKAGE,),
    license="GPL-2+",
    description="descriptions of stamps in 14 languages, digits in 21",
    recordings=recordings,
)
