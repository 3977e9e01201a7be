"""Where bases are kept: a folder each, with `source.json` beside the weights, which says where they came from."""

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
from metavox.files import write_json

SOURCE = "source.json"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
SPARE = 64 << 20  # bytes that are left free
WAIT_S = 2.0  # before somebody who waits is told so
FULL = (errno.ENOSPC, errno.EDQUOT)
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Where a base came from. `revision` is what pins it: a commit, or a digest; `asked` what was asked for."""

    name: str
    where: str
    revision: str = ""
    asked: str = ""
    licence: str = ""
    languages: tuple[str, ...] = ()


def to_stderr(line: str) -> None:
    print(f"metavox: {line}", file=sys.stderr, flush=True)


def root() -> Path:
    """METAVOX_BASES, or metavox/bases in the user's cache."""
    if chosen := os.environ.get("METAVOX_BASES"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "metavox" / "bases"


def place(name: str) -> Path:
    """The folder of the base called `name`, be it there or not."""
    return root() / name.replace("/", "--")


def stored(name: str) -> Source | None:
    """What the store knows of a base that it has whole."""
    return read_source(place(name))


def all_stored() -> Iterator[Source]:
    folders = sorted(root().iterdir()) if root().is_dir() else []
    for folder in folders:
        if not folder.name.startswith(".") and (source := read_source(folder)):
            yield source


def read_source(folder: Path) -> Source | None:
    """Of any folder that came out of a store; none where it says nothing."""
    from metavox.recognisers.bases.files import read_json

    if not (folder / SOURCE).is_file() or not (folder / "config.json").is_file():
        return None
    about = read_json(folder / SOURCE)
    known = {field.name for field in fields(Source)}
    given = {key: value for key, value in about.items() if key in known}
    given["languages"] = tuple(given.get("languages", ()))
    return Source(**{"name": folder.name, "where": "", **given})


def write_source(folder: Path, source: Source) -> None:
    write_json(folder / SOURCE, asdict(source))


@contextmanager
def locked(name: str, tell: Tell = to_stderr) -> Iterator[None]:
    """Nobody else fetches, changes or removes this base meanwhile, in this process or another.

    Raises UserError where the store cannot be written to.
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
            f"{root()}: cannot be written to ({error.strerror or error}); set METAVOX_BASES to a folder that can"
        ) from error
    try:
        yield
    finally:
        lock.release()


def need_space(name: str, bytes_needed: int) -> None:
    """Raises UserError, before anything is written, where the store's disk is too small."""
    free = shutil.disk_usage(root()).free
    if free < bytes_needed + SPARE:
        raise UserError(
            f"{name}: needs {megabytes(bytes_needed)}, {megabytes(free)} are free at {root()}; "
            "free some space, or set METAVOX_BASES to a folder on another disk"
        )


@contextmanager
def space_errors(name: str) -> Iterator[None]:
    """A disk that becomes full all the same is one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f"{name}: the disk of {root()} became full; free some space, or set METAVOX_BASES to a folder on another "
            "disk, and run the same command again"
        ) from error


def put(made: Path, name: str) -> Path:
    """Move a finished folder to its place in the store; one that is there is replaced."""
    target = place(name)
    readable = (made / SOURCE).stat().st_mode
    for file in made.glob(
        "*.safetensors"
    ):  # safetensors lets nobody else read what it writes; a store may be shared
        file.chmod(readable)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    made.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def remove(name: str) -> int:
    """Take a base out of the store, with what an interrupted download left; returns bytes freed."""
    from metavox.recognisers.bases.files import size_bytes

    with locked(name):
        folder = place(name)
        gone = folder.with_name(f".{folder.name}.old")
        freed = sum(size_bytes(path) for path in (folder, *partials(name)) if path.exists())
        if folder.exists():
            folder.rename(gone)  # no half of it ever looks whole
        for path in (gone, *partials(name)):
            shutil.rmtree(path, ignore_errors=True)
    return freed


def partial(name: str, revision: str = "") -> Path:
    """Where a download grows; it is there after an interruption, and goes on from it."""
    return root() / f".{place(name).name}~{revision[:12]}.partial"


def partials(name: str) -> list[Path]:
    return sorted(root().glob(f".{place(name).name}~*.partial"))


def megabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 0.1):.{0 if size >= 1e6 else 1}f} MB"
