"""The store of base models: one folder for each, with `source.json` beside the weights for its origin."""

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from metavox.errors import UserError
from metavox.files import replace, write_json

SOURCE = "source.json"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
SPARE_BYTES = 64 << 20  # bytes to leave free
WAIT_S = 2.0  # before the user is told that the command waits
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Where a base model came from. `revision` pins it (a commit or a digest); `asked` is the revision that
    was requested.
    """

    name: str
    where: str
    revision: str = ""
    asked: str = ""
    licence: str = ""
    languages: tuple[str, ...] = ()


def to_stderr(line: str) -> None:
    print(f"metavox: {line}", file=sys.stderr, flush=True)


def root() -> Path:
    """The folder of the store: METAVOX_BASES, by default metavox/bases in the user's cache."""
    if chosen := os.environ.get("METAVOX_BASES"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "metavox" / "bases"


def place(name: str) -> Path:
    """The folder of the base model called `name`, whether it exists or not."""
    return root() / name.replace("/", "--")


def stored(name: str) -> Source | None:
    """The source of a base model that the store has completely, or None."""
    return read_source(place(name))


def all_stored() -> Iterator[Source]:
    folders = sorted(root().iterdir()) if root().is_dir() else []
    for folder in folders:
        if not folder.name.startswith(".") and (source := read_source(folder)):
            yield source


def read_source(folder: Path) -> Source | None:
    """The source of any folder that came out of a store; None for other folders."""
    from metavox.recognisers.bases.files import read_json

    if not (folder / SOURCE).is_file() or not (folder / "config.json").is_file():
        return None
    data = read_json(folder / SOURCE)
    known = {field.name for field in fields(Source)}
    values = {key: value for key, value in data.items() if key in known}
    values["languages"] = tuple(values.get("languages", ()))
    return Source(**{"name": folder.name, "where": "", **values})


def write_source(folder: Path, source: Source) -> None:
    write_json(folder / SOURCE, asdict(source))


@contextmanager
def locked(name: str, tell: Tell = to_stderr) -> Iterator[None]:
    """Keep other threads and processes from fetching, changing or removing this base model.

    Raises UserError if the store is not writable.
    """
    from filelock import FileLock, Timeout

    try:
        root().mkdir(parents=True, exist_ok=True)
        lock = FileLock(root() / f".{place(name).name}.lock")
        try:
            lock.acquire(timeout=WAIT_S)
        except Timeout:
            tell(f"{name}: another process is fetching it; waiting")
            lock.acquire()
    except OSError as error:
        raise UserError(
            f"{root()}: cannot be written to ({error.strerror or error}); set METAVOX_BASES to a writable folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def need_space(name: str, bytes_needed: int) -> None:
    """Raise UserError before anything is written if the store's disk is too small."""
    free = shutil.disk_usage(root()).free
    if free < bytes_needed + SPARE_BYTES:
        raise UserError(
            f"{name}: needs {megabytes(bytes_needed)}, but {megabytes(free)} are free at {root()}; "
            "free some space, or set METAVOX_BASES to a folder on another disk"
        )


@contextmanager
def space_errors(name: str) -> Iterator[None]:
    """Turn a disk that fills up during a write into a one-line UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(
            f"{name}: the disk of {root()} became full; free some space, or set METAVOX_BASES to a folder on another "
            "disk, and run the same command again"
        ) from error


def put(folder: Path, name: str) -> Path:
    """Move a finished folder to its place in the store and replace an existing one."""
    target = place(name)
    readable = (folder / SOURCE).stat().st_mode
    # safetensors writes files that only their owner can read, but a store may be shared.
    for file in folder.glob("*.safetensors"):
        file.chmod(readable)
    replace(folder, target)
    shutil.rmtree(folder, ignore_errors=True)
    return target


def remove(name: str) -> int:
    """Remove a base model from the store, with the rest of an interrupted download; returns the bytes freed."""
    from metavox.recognisers.bases.files import size_bytes

    with locked(name):
        folder = place(name)
        discarded = folder.with_name(f".{folder.name}.old")
        freed = sum(size_bytes(path) for path in (folder, *partials(name)) if path.exists())
        if folder.exists():
            folder.rename(discarded)  # a partly deleted folder never looks complete
        for path in (discarded, *partials(name)):
            shutil.rmtree(path, ignore_errors=True)
    return freed


def partial(name: str, revision: str = "") -> Path:
    """The folder of an unfinished download, which resumes after an interruption."""
    return root() / f".{place(name).name}~{revision[:12]}.partial"


def partials(name: str) -> list[Path]:
    return sorted(root().glob(f".{place(name).name}~*.partial"))


def megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 0.1):.{0 if size >= 1e6 else 1}f} MB"
