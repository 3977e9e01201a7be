"""Digests of files, kept between runs: a file of the same size and time of change is not read again."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from metavox.recognisers.bases.files import read_head
from metavox.recognisers.bases.store import root

KEPT = ".digests.json"
LARGE = 1 << 20  # bytes; what is smaller is read anew


def bytes_digest(file: Path) -> str:
    """sha256 of a file, as sha256sum prints it."""
    return _kept("bytes", file, _of_bytes)


def tensors_digest(file: Path) -> str:
    """sha256 of what a safetensors file holds: names, types, shapes and numbers, sorted by name.

    How the file lays them out, which differs between versions of safetensors, does not count.
    """
    return _kept("tensors", file, _of_tensors)


def _of_bytes(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _of_tensors(file: Path) -> str:
    total = hashlib.sha256()
    with file.open("rb") as data:
        for name, (dtype, shape, start, end) in sorted(read_head(file).where.items()):
            total.update(json.dumps([name, dtype, shape]).encode())
            data.seek(start)
            left = end - start
            while left and (block := data.read(min(left, LARGE))):
                total.update(block)
                left -= len(block)
    return total.hexdigest()


def _kept(what: str, file: Path, compute: Callable[[Path], str]) -> str:
    about = file.stat()
    if about.st_size < LARGE:
        return compute(file)
    key, mark = f"{what} {file.resolve()}", [about.st_size, about.st_mtime_ns, about.st_ino]
    known = _read().get(key)
    if isinstance(known, list) and known[:3] == mark:
        return str(known[3])
    found = compute(file)
    _write(key, [*mark, found])
    return found


def _read() -> dict[str, object]:
    try:
        found = json.loads((root() / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(key: str, value: list[object]) -> None:
    """Best effort: where the store cannot be written to, the next run computes again."""
    known = {name: kept for name, kept in _read().items() if Path(name.partition(" ")[2]).exists()}
    try:
        root().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=root(), prefix=KEPT, delete=False, encoding="utf-8"
        ) as aside:
            json.dump({**known, key: value}, aside)
        os.replace(aside.name, root() / KEPT)
    except OSError:
        pass
