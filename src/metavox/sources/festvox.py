"""festvox-ru: a man reading a Russian novel aloud, recorded for a Festival voice."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from metavox.sources.base import Recording, Source, unit_of

PACKAGE = "festvox-ru"
SPEAKER = "msu_ru_nsh_clunits"
LINE = re.compile(r'\(\s*(\S+)\s+"([^"]*)"\s*\)')


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    root = unpacked[PACKAGE] / "usr/share/festival/voices/russian" / SPEAKER
    for name, text in sorted(LINE.findall((root / "etc/txt.done.data").read_text(encoding="utf-8"))):
        path = root / "wav" / f"{name}.wav"
        text = " ".join(text.replace("+", "").split())  # + marks a stressed vowel
        if path.is_file() and text:
            yield Recording(
                name=f"{name}.wav",
                data=path.read_bytes(),
                text=text,
                speaker="festvox-ru-nsh",
                language="ru",
                unit=unit_of(text, "ru"),
                license="MIT-Festival",
                environment="room",
            )


SOURCE = Source(
    name="festvox",
    packages=(PACKAGE,),
    license="MIT-Festival",
    description="a Russian novel read by one man",
    recordings=recordings,
)
