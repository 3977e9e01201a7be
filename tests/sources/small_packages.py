"""Builders of small packages in the format of the real ones."""

import gzip
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

Publish = Callable[[str, str, dict[str, bytes]], None]
needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is Debian's")


def quiet(what: str, done: int, total: int) -> None:
    """A progress callback for tests."""


def prompt_package(root: Path, name: str, texts: str) -> Path:
    """An unpacked asterisk-core-sounds-LANG with this list of texts."""
    folder = root / name / "usr/share/doc" / name
    folder.mkdir(parents=True)
    (folder / f"core-sounds-{name[-2:]}.txt.gz").write_bytes(gzip.compress(texts.encode()))
    return root / name


def queen_file(entries: dict[str, bytes]) -> bytes:
    """A packed file in the format of Flight of the Amazon Queen."""
    head = b"QTBLCEM10\0\0\0\1" + struct.pack(">H", len(entries))
    at = len(head) + 21 * len(entries)
    table = b""
    for name, data in entries.items():
        table += struct.pack(">12sBII", name.encode(), 1, at, len(data))
        at += len(data)
    return head + table + b"".join(entries.values())


def queen_dialogue(key: int, joe: dict[int, str], other: dict[int, str]) -> bytes:
    """A .DOG file without a dialogue tree."""

    def strings(start: int, lines: dict[int, str]) -> bytes:
        out = b""
        for line_id, text in lines.items():
            data = text.encode("cp437")
            out += struct.pack(">HHB", 0, line_id, len(data)) + data
            out += b"\0" * (-(start + len(out)) % 4)
        return out

    joe_strings = strings(32, joe)
    other_at = 32 + len(joe_strings)
    head = struct.pack(">5h", 0, 1, key, len(joe), len(other)).ljust(22, b"\0")
    head += struct.pack(">3H", other_at, 0, 0)
    return b"AmBk".ljust(20, b"\0") + head.ljust(32, b"\0") + joe_strings + strings(other_at, other)
