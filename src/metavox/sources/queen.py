"""Flight of the Amazon Queen: an English adventure game with spoken dialogue, in a single packed file.

Layout of `queen.1c`, big-endian: the number of entries at byte 13, then entries of 21 bytes (name 12, one byte, offset,
length). A `.DOG` file is the dialogue between Joe and one other character. Its lines have an ID; `*` and two characters
end a segment; segment N of line ID in dialogue KEY is the MP3 `KEY ID J|P N.SB`, with J for Joe and P for the other
character. `QUEEN2.JAS` lists Joe's descriptions of things, which are spoken in `JOEnnnnN.SB`.
"""

import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from metavox.sources.base import Recording, Source, spell_digits, unit_of

PACKAGE = "flight-of-the-amazon-queen"
LICENSE = "Flight-of-the-Amazon-Queen (free to distribute, not for sale alone)"
DOG_HEADER = 20
TREE_LEVEL = 96
FIRST_DESCRIPTION = 41  # JOE0001 to JOE0040 are stock answers from elsewhere
NOT_SPEECH = {"ape", "dog"}  # grunts and barks
NUMBERED_CHARACTERS = {"man"}  # man1 and man2 are two men
COMMAND = re.compile(r"\*(?:XY\d\d\(\d+,\d+\)|..)")


def recordings(unpacked: Mapping[str, Path]) -> Iterator[Recording]:
    data = (unpacked[PACKAGE] / "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c").read_bytes()
    entries = directory(data)
    for name in sorted(entries):
        if name.endswith(".DOG"):
            yield from _dialogue(name.removesuffix(".DOG"), entries)
    yield from _descriptions(entries)


def directory(data: bytes) -> dict[str, bytes]:
    """Name -> content for every entry of the packed file."""
    (count,) = struct.unpack_from(">H", data, 13)
    entries = {}
    for i in range(count):
        raw, offset, length = struct.unpack_from(">12sxII", data, 15 + 21 * i)
        entries[raw.rstrip(b"\0").decode("ascii")] = data[offset : offset + length]
    return entries


def segments(line: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each spoken segment of a line, without the commands between segments."""
    for i, text in enumerate(COMMAND.split(line), start=1):
        if any(c.isalpha() for c in text):
            yield i, " ".join(text.split())


def dialogue_lines(dog: bytes) -> tuple[int, list[tuple[int, str]], list[tuple[int, str]]]:
    """(key, Joe's lines, the other character's lines) of a .DOG file. A line is (ID, text with commands)."""
    body = dog[DOG_HEADER:]
    levels, _, key, joe_count, other_count = struct.unpack_from(">5h", body)
    (other_at,) = struct.unpack_from(">H", body, 22)
    joe_at = 32 + abs(levels) * TREE_LEVEL
    return key, _strings(body, joe_at, joe_count), _strings(body, other_at, other_count)


def _strings(body: bytes, at: int, count: int) -> list[tuple[int, str]]:
    strings: dict[int, str] = {}
    for _ in range(count):
        if at + 5 > len(body):
            break
        (line_id,) = struct.unpack_from(">H", body, at + 2)
        length = body[at + 4]
        at += 5
        strings.setdefault(line_id, body[at : at + length].decode("cp437"))
        if length:
            at = (at + length + 3) & ~3
    return sorted(strings.items())


def _dialogue(stem: str, entries: Mapping[str, bytes]) -> Iterator[Recording]:
    letters = re.sub(r"\d", "", stem).lower()
    other = stem.lower() if letters in NUMBERED_CHARACTERS else letters
    key, joe_lines, other_lines = dialogue_lines(entries[f"{stem}.DOG"])
    for side, character, lines in (("J", "joe", joe_lines), ("P", other, other_lines)):
        if character in NOT_SPEECH:
            continue
        for line_id, line in lines:
            for number, text in segments(line):
                yield from _recording(f"{key:02d}{line_id:04X}{side}{number:X}", text, character, entries)


def _descriptions(entries: Mapping[str, bytes]) -> Iterator[Recording]:
    lines = entries["QUEEN2.JAS"].decode("cp437").split("\r\n")
    files = defaultdict(set)
    for name in entries:
        if name.startswith("JOE"):
            files[name[:7]].add(name)
    for number, line in enumerate(lines, start=FIRST_DESCRIPTION):
        spoken = [(i, t, f"JOE{number:04d}{i:X}") for i, t in segments(line)]
        # Only lines whose segments match the files in number and position are reliable.
        if spoken and {f"{stem}.SB" for _, _, stem in spoken} == files[f"JOE{number:04d}"]:
            for _, text, stem in spoken:
                yield from _recording(stem, text, "joe", entries)


def _recording(stem: str, text: str, character: str, entries: Mapping[str, bytes]) -> Iterator[Recording]:
    data = entries.get(f"{stem}.SB")
    clean = re.sub(r"\([^)]*\)|\[[^\]]*\]|<[^>]*>", " ", text)
    spelled = spell_digits(" ".join(clean.replace('"', " ").split()), "en")
    if data is None or not any(c.isalpha() for c in clean):
        return
    yield Recording(
        name=f"{character}/{stem}.mp3",
        data=data,
        text=spelled or " ".join(clean.split()),
        speaker=f"queen-{character}",
        language="en",
        unit=unit_of(spelled or clean, "en"),
        license=LICENSE,
        text_kind="spoken" if spelled and clean == text else "inferred",
        environment="game",
    )


SOURCE = Source(
    name="queen",
    packages=(PACKAGE,),
    license=LICENSE,
    description="English game dialogue by about 28 characters",
    recordings=recordings,
)
