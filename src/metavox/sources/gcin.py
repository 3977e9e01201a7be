"""gcin: Mandarin syllables with tones by two speakers, in one folder for each syllable in zhuyin."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from metavox.sources.base import Recording, Source

PACKAGE = "gcin-voice"
SPEAKERS = {"3": "GPL-3 or LGPL-3", "5": "CC-BY-3.0"}
TONES = {"2": "ˊ", "3": "ˇ", "4": "ˋ"}  # no mark: the first tone
# The syllables of 〇 一 二 三 四 五 六 七 八 九, digits spoken alone.
DIGITS = {"ㄌㄧㄥˊ", "ㄧ", "ㄦˋ", "ㄙㄢ", "ㄙˋ", "ㄨˇ", "ㄌㄧㄡˋ", "ㄑㄧ", "ㄅㄚ", "ㄐㄧㄡˇ"}


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    root = unpacked[PACKAGE] / "usr/share/gcin-voice/ogg"
    for path in sorted(root.glob("*/*.ogg")):
        syllable, speaker = path.parent.name, path.stem
        # A final 1 is the neutral tone, whose mark no tokenizer distinguishes from the first tone.
        if speaker not in SPEAKERS or syllable.endswith("1"):
            continue
        text = syllable[:-1] + TONES[syllable[-1]] if syllable[-1] in TONES else syllable
        yield Recording(
            name=f"{speaker}/{syllable}.ogg",
            data=path.read_bytes(),
            text=text,
            speaker=f"gcin-{speaker}",
            language="zh",
            unit="digit" if text in DIGITS else "letter",
            license=SPEAKERS[speaker],
        )


SOURCE = Source(
    name="gcin",
    packages=(PACKAGE,),
    license="GPL-3, LGPL-3, CC-BY-3.0",
    description="Mandarin syllables by 2 speakers",
    recordings=recordings,
)
