"""Fish Fillets: a puzzle game in which two fish comment on everything, in Czech and Dutch.

A script gives for every line its ID, its font colour (which identifies the speaker), the English original and the
translation: dialogId("id", "font_small", "English") dialogStr("text"). The recording is `sound/LEVEL/LANG/id.ogg`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from metavox.sources.base import Recording, Source, spell_digits, unit_of

SCRIPTS = "fillets-ng-data"
SOUNDS = {"cs": "fillets-ng-data-cs", "nl": "fillets-ng-data-nl"}
GAME = "usr/share/games/fillets-ng"
STRING = r'"((?:[^"\\]|\\.)*)"'
LINE = re.compile(rf"dialogId\(\s*{STRING},\s*{STRING},\s*{STRING}\s*\)\s*dialogStr\(\s*{STRING}\s*\)")
MAIN_SPEAKERS = {"font_small": "small", "font_big": "big"}  # the two fish
SEVERAL_SPEAKERS = {"font_both"}  # both fish at once


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    for language, package in SOUNDS.items():
        root = unpacked[package] / GAME / "sound"
        for level in sorted(path for path in root.iterdir() if path.is_dir()):
            lines = dialogue(unpacked[SCRIPTS] / GAME / "script" / level.name, language)
            for path in sorted(level.rglob("*.ogg")):
                if path.stem in lines:
                    name = f"{language}/{path.relative_to(root).as_posix()}"
                    yield from _recording(path, name, *lines[path.stem], language)


def dialogue(folder: Path, language: str) -> dict[str, tuple[str, str]]:
    """Line ID -> (font colour, text), from all scripts of a level in this language."""
    lines = {}
    for path in sorted(folder.glob(f"*dialogs_{language}.lua")):
        for name, colour, _, text in LINE.findall(path.read_text(encoding="utf-8")):
            lines[name] = (colour, " ".join(re.sub(r"\\(.)", r"\1", text).split()))
    return lines


def speaker_of(colour: str, level: str, language: str) -> str:
    """The speaker of a line. The two fish are the same in all levels; other colours are another speaker in each level."""
    character = MAIN_SPEAKERS.get(colour) or f"{level.rstrip('0123456789')}-{colour.removeprefix('font_')}"
    return f"fillets-{language}-{character}"


def _recording(path: Path, name: str, colour: str, text: str, language: str) -> Iterator[Recording]:
    # `%1` is a number that the game fills in; lines without a colour are such numbers.
    if not colour or colour in SEVERAL_SPEAKERS or "%" in text or not any(c.isalpha() for c in text):
        return
    spelled = spell_digits(text, language)
    yield Recording(
        name=name,
        data=path.read_bytes(),
        text=spelled or text,
        speaker=speaker_of(colour, name.split("/")[1], language),
        language=language,
        unit=unit_of(spelled or text, language),
        license="GPL-2",
        text_kind="inferred" if spelled is None or re.search(r"[\\/]", text) else "spoken",  # C:\\WINDOWS
        environment="game",
    )


SOURCE = Source(
    name="fillets",
    packages=(SCRIPTS, *SOUNDS.values()),
    license="GPL-2",
    description="Czech and Dutch game dialogue by 4 main and many small characters",
    recordings=recordings,
)
