"""qABCs: English letters and words from a spelling book, by its only human speaker.

Of the eight speakers in the package, seven (be, de, en_gb, fr, pl, ru, uk) are synthetic: they are completely silent
before and after a word (-93 dB and less), and six of them have the 22.05 or 24 kHz of speech synthesis. They are left
out, because this corpus distinguishes recorded from synthetic speech.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from metavox.sources.base import Recording, Source, unit_of

PACKAGE = "qabcs-data"


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    root = unpacked[PACKAGE] / "usr/share/qabcs/abcs/en"
    seen = set()
    for entry in json.loads((root / "abc1.json").read_text(encoding="utf-8"))["letters"]:
        for name, text, unit in sorted(_sounds(entry)):
            path = root / "sounds" / name
            if name in seen or not path.is_file():
                continue
            seen.add(name)
            yield Recording(
                name=f"en/{name}",
                data=path.read_bytes(),
                text=text.lower(),
                speaker="qabcs-en",
                language="en",
                unit=unit or unit_of(text, "en"),
                license="GPL-3+",
                environment="room",
            )


def _sounds(entry: Mapping[str, dict[str, object]]) -> Iterator[tuple[str, str, str]]:
    """(file, text, unit or empty) of a letter and the things that begin with it."""
    for letter, values in entry.items():
        if "sound_letter" in values:
            yield f"alpha/{str(values['sound_letter']).lower()}", letter, "letter"
        for thing in values.values():
            if isinstance(thing, dict) and {"name", "sound_pic"} <= thing.keys():
                yield f"words/{thing['sound_pic']}", str(thing["name"]), ""


SOURCE = Source(
    name="qabcs",
    packages=(PACKAGE,),
    license="GPL-3+",
    description="English letters and words of a spelling book, 1 speaker",
    recordings=recordings,
)
