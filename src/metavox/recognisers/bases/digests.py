"""Digests of files, cached between runs: a file with unchanged size and modification time is not read again."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from metavox.recognisers.bases.files import read_head
from metavox.recognisers.bases.store import root

CACHE = ".digests.json"
MIN_CACHED_BYTES = 1 << 20  # smaller files are always read again


def bytes_digest(file: Path) -> str:
    """sha256 of a file, as sha256sum prints it."""
    return _cached("bytes", file, _of_bytes)


def tensors_digest(file: Path) -> str:
    """sha256 of the content of a safetensors file: names, types, shapes and values, sorted by name.

    The layout of the file, which differs between versions of safetensors, does not count.
    """
    return _cached("tensors", file, _of_tensors)


def _of_bytes(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _of_tensors(file: Path) -> str:
    total = hashlib.sha256()
    with file.open("rb") as data:
        for name, (dtype, shape, start, end) in sorted(read_head(file).entries.items()):
            total.update(json.dumps([name, dtype, shape]).encode())
            data.seek(start)
            remaining = end - start
            while remaining and (block := data.read(min(remaining, MIN_CACHED_BYTES))):
                total.update(block)
                remaining -= len(block)
    return total.hexdigest()


def _cached(what: str, file: Path, compute: Callable[[Path], str]) -> str:
    status = file.stat()
    if status.st_size < MIN_CACHED_BYTES:
        return compute(file)
    key, stamp = f"{what} {file.resolve()}", [status.st_size, status.st_mtime_ns, status.st_ino]
    known = _read_cache().get(key)
    if isinstance(known, list) and known[:3] == stamp:
        return str(known[3])
    digest = compute(file)
    _write_cache(key, [*stamp, digest])
    return digest


def _read_cache() -> dict[str, object]:
    try:
        cache = json.loads((root() / CACHE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}


def _write_cache(key: str, value: list[object]) -> None:
    """Best effort: if the store is not writable, the next run computes the digest again."""
    known = {name: entry for name, entry in _read_cache().items() if Path(name.partition(" ")[2]).exists()}
    try:
        root().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=root(), prefix=CACHE, delete=False, encoding="utf-8"
        ) as aside:
            json.dump({**known, key: value}, aside)
        os.replace(aside.name, root() / CACHE)
    except OSError:
        pass
