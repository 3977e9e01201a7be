"""The test data of pocketsphinx: five sentences read from a book, and five lines about playing cards."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from metavox.sources.base import Recording, Source, unit_of

PACKAGE = "pocketsphinx-testdata"
LISTS = {"cards": "cards.transcription", "librivox": "transcription"}
LINE = re.compile(r"<s>(.*)</s>\s*\(([^)]+)\)")


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    root = unpacked[PACKAGE] / "usr/share/pocketsphinx/test/data"
    for folder, texts in sorted(LISTS.items()):
        for line in (root / folder / texts).read_text(encoding="utf-8").splitlines():
            match = LINE.search(line)
            if not match:
                continue
            text, name = " ".join(match[1].split()), match[2]
            path = root / folder / f"{name}.wav"
            if path.is_file():
                yield Recording(
                    name=f"{folder}/{name}.wav",
                    data=path.read_bytes(),
                    text=text,
                    speaker=f"pocketsphinx-{folder}",
                    language="en",
                    unit=unit_of(text, "en"),
                    license="BSD-2-Clause",
                )


SOURCE = Source(
    name="pocketsphinx",
    packages=(PACKAGE,),
    license="BSD-2-Clause",
    description="10 English lines by 2 speakers",
    recordings=recordings,
)
