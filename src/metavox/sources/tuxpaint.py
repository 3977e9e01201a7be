"""Tux Paint's stamps: what is on a picture, said in fourteen languages, and the ten digits in twenty-one.

`X_desc_LANG.ogg` reads out the line `LANG.utf8=` of `X.txt` (the first line is English). Most recordings are
from 2006 to 2010 and the texts went on changing, so what cannot have been said in the time is left out.
The package's change log names who speaks. `X.ogg` is the noise that a thing makes, except for digits.
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
FILE = re.compile(r"(?P<stem>.+?)(?P<said>_desc)?(?:_(?P<folder>[a-z]{2}(?:_[A-Za-z]{2})?))?\.(?:ogg|wav)")
DIGIT = re.compile(r"symbols/math/(\d)")
LETTER = re.compile(
    r"symbols/alphabets/(english|asl)/(?:.*/)?(?:asl_|asl_zzz_)?([A-Za-z\d])(?:_filled|_outline)?"
)
ARTICLE = re.compile(r"(een|uma?|twee)\s", re.IGNORECASE)


@dataclass(frozen=True)
class Speaker:
    """`fastest` is in characters a second: a text that is longer than that was not said in full."""

    fastest: float
    kind: str = "spoken"
    bare: tuple[str, ...] = ()  # alphabets of which it says the letter alone
    no_article: bool = False


# The rates are where a speaker's own distribution ends. Texts of `inferred` speakers changed most since.
SPEAKERS = {
    "": Speaker(20),
    "be": Speaker(14),
    "bg": Speaker(21),
    "ca": Speaker(21.5, "inferred", bare=("english", "asl")),
    "da": Speaker(22, "inferred"),
    "el": Speaker(16, "inferred", bare=("english", "asl")),
    "en_GB": Speaker(20, bare=("english",)),
    "es": Speaker(20),
    "fr": Speaker(24, bare=("english",)),
    "lt": Speaker(20, bare=("english",)),
    "ml": Speaker(20),
    "nl": Speaker(18, "inferred", no_article=True),  # 'Een hond.' in 0.3 s is 'hond'
    "pt_BR": Speaker(18, "inferred", no_article=True),
    "ro": Speaker(20.5),
    "ru": Speaker(20),
}
LANGUAGES = {"": "en", "en_GB": "en", "pt_BR": "pt", "zh_tw": "zh"}
# Who says the digits is another person than who says the rest, by the change log: all but these.
MAYBE_THE_SAME = {"", "be", "ca", "en_GB", "lt", "nl"}
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
        folder, stem = match["folder"] or "", match["stem"]
        data = path.read_bytes()
        key = (folder, hashlib.sha256(data).hexdigest())
        found = _said(root, stem, folder, data) if match["said"] else _alone(root, stem, folder)
        # A stamp and its variants share a recording, letters in both cases too.
        if found is None or key in seen or (folder, stem) in LEAVE_OUT:
            continue
        seen.add(key)
        text, unit, kind = found
        numbers = not match["said"] and folder != "en_GB" and bool(DIGIT.fullmatch(stem))
        name = f"tuxpaint-{folder or 'en'}"
        yield Recording(
            name=path.relative_to(root).as_posix(),
            data=data,
            text=text,
            speaker=f"{name}-numbers" if numbers else name,
            language=_language(folder),
            unit=unit,
            license="GPL-2+",
            text_kind=kind,
            speaker_group=name if folder in MAYBE_THE_SAME else "",
        )


def texts(path: Path) -> dict[str, str]:
    """Language as the file writes it -> text; English is the empty one."""
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    found = {"": lines[0].strip()} if lines else {}
    for line in lines[1:]:
        language, mark, text = line.partition(".utf8=")
        if mark and text.strip():
            found[language.strip()] = text.strip()
    return found


def _said(root: Path, stem: str, folder: str, data: bytes) -> tuple[str, str, str] | None:
    """(text, unit, kind) of a description; None where it is unknown, or too long for the recording."""
    speaker, language = SPEAKERS.get(folder), _language(folder)
    if speaker is None:
        return None
    letter = LETTER.fullmatch(stem)
    if letter and letter[1] in speaker.bare:
        return _named(letter[2], language)
    text = texts(root / f"{stem}.txt").get(folder, "")
    if "=" in text or (speaker.bare and stem.startswith(f"{ALPHABETS}/german/")):
        return None
    cleaned = re.sub(r"\s*\([^)]*\)", "", text)
    kind = speaker.kind if cleaned == text else "inferred"
    if speaker.no_article:
        cleaned = ARTICLE.sub("", cleaned, count=1)
    spelled = spell_digits(cleaned, language)
    text = " ".join((spelled or cleaned).split())
    if not any(c.isalpha() for c in text) or len(plain(text)) > speaker.fastest * duration_s(data):
        return None
    unit = "digit" if DIGIT.fullmatch(stem) else unit_of(text, language)
    return text, unit, kind if spelled else "inferred"


def _alone(root: Path, stem: str, folder: str) -> tuple[str, str, str] | None:
    """(text, unit, kind) of a digit or an English letter; anything else is a noise."""
    language = _language(folder)
    letter = LETTER.fullmatch(stem)
    if folder == "en_GB" and letter:
        return _named(letter[2], language)
    if not DIGIT.fullmatch(stem):
        return None
    text = texts(root / f"{stem}.txt").get("zh_TW" if folder == "zh_tw" else folder, "")
    return (text, "digit", "spoken") if text else None


def _named(letter: str, language: str) -> tuple[str, str, str]:
    if letter.isdigit():
        return DIGITS[language][int(letter)], "digit", "inferred"
    return letter.lower(), "letter", "spoken"


def _language(folder: str) -> str:
    return LANGUAGES.get(folder, folder)


def duration_s(data: bytes) -> float:
    return float(soundfile.info(io.BytesIO(data)).duration)


SOURCE = Source(
    name="tuxpaint",
    packages=(PACKAGE,),
    license="GPL-2+",
    holds="what stamps show in 14 languages, digits in 21",
    recordings=recordings,
)
