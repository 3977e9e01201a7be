"""KLettres: letters and syllables in 19 languages by 20 speakers."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from metavox.sources.base import Recording, Source, unit_of

PACKAGE = "klettres-data"
SOUND = re.compile(r'<sound\s+name="([^"]+)"\s+file="([^"]+)"')


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    root = unpacked[PACKAGE] / "usr/share/klettres"
    for index in sorted(root.glob("*/sounds.xml")):
        folder = index.parent.name
        language = folder.partition("_")[0]
        seen = set()
        # Some of these files are not well-formed XML, but their entries are, one on each line.
        entries = re.sub(r"<!--.*?-->", "", index.read_text(encoding="utf-8"), flags=re.DOTALL)
        for text, file in SOUND.findall(entries):
            path = root / file
            if file in seen or not path.is_file():
                continue
            seen.add(file)
            text = text.strip()
            yield Recording(
                name=file,
                data=path.read_bytes(),
                text=text if len(text) == 1 else text.lower(),
                speaker=f"klettres-{folder}",
                language=language,
                unit="digit" if unit_of(text, language) == "digit" else "letter",
                license="GPL-2+",
                environment="room",
            )


SOURCE = Source(
    name="klettres",
    packages=(PACKAGE,),
    license="GPL-2+",
    description="letters and syllables in 19 languages, 20 speakers",
    recordings=recordings,
)
