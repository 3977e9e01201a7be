"""KTuberling: the parts of pictures named in 23 languages, one speaker each.

A theme gives a recording the English ID of a concept ("moon_star") instead of the spoken word. The text is therefore
a label that distinguishes the words of one language, but cannot be compared between languages.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from metavox.sources.base import Recording, Source

PACKAGE = "ktuberling-data"
SOUND = re.compile(r'<sound\s+name="([^"]+)"\s+file="([^"]+)"')


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    root = unpacked[PACKAGE] / "usr/share/ktuberling/sounds"
    seen: set[tuple[str, str]] = set()
    for theme in sorted(root.glob("*.soundtheme")):
        language = theme.stem.partition("@")[0]
        entries = re.sub(r"<!--.*?-->", "", theme.read_text(encoding="utf-8"), flags=re.DOTALL)
        for concept, file in SOUND.findall(entries):
            path = root / file
            if not path.is_file():
                continue
            data = path.read_bytes()
            # Serbian occurs four times, in two scripts and two dialects, with the same recordings.
            key = (language, hashlib.sha256(data).hexdigest())
            if key in seen:
                continue
            seen.add(key)
            yield Recording(
                name=file,
                data=data,
                text=re.sub(r"[_-]", " ", concept),
                speaker=f"ktuberling-{language}",
                language=language,
                unit="word",
                license="GPL-2+",
                text_kind="concept",
            )


SOURCE = Source(
    name="ktuberling",
    packages=(PACKAGE,),
    license="GPL-2+",
    description="names of things in 23 languages, by concept instead of word",
    recordings=recordings,
)
