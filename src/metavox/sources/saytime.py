"""saytime: the words of a speaking clock by one English speaker."""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from metavox.sources.base import DIGITS, Recording, Source, unit_of

PACKAGE = "saytime"
NUMBERS = dict(
    zip(
        ("10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "30", "40", "50"),
        (
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
            "thirty",
            "forty",
            "fifty",
        ),
        strict=True,
    )
)
WORDS = {name: name for name in ("and", "exactly", "hour", "hours", "minute", "minutes", "second", "seconds")}
TEXTS = {
    **{str(i): word for i, word in enumerate(DIGITS["en"][:10])},
    **NUMBERS,
    **WORDS,
    "am": "A.M.",
    "pm": "P.M.",
    "oclock": "o'clock",
    "oh": "oh",
    "the_time_is": "the time is",
}


def with_header(samples: bytes) -> bytes:
    """The samples, which are 8 kHz mu-law without a header, with the .au header that the suffix promises."""
    mu_law, sample_rate_hz, channels = 1, 8000, 1
    return struct.pack(">4s5I", b".snd", 24, len(samples), mu_law, sample_rate_hz, channels) + samples


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    for path in sorted((unpacked[PACKAGE] / "usr/share/saytime").glob("*.au")):
        if path.stem in TEXTS:
            text = TEXTS[path.stem]
            yield Recording(
                name=path.name,
                data=with_header(path.read_bytes()),
                text=text,
                speaker="saytime",
                language="en",
                unit="digit" if text == "oh" else unit_of(text, "en"),
                license="GPL-2+",
                environment="telephone",
            )


SOURCE = Source(
    name="saytime",
    packages=(PACKAGE,),
    license="GPL-2+",
    description="English clock words and digits, 1 speaker",
    recordings=recordings,
)
