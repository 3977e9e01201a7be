"""Writing so that no partial artifact ever looks whole, and no stop loses what was there."""

import ctypes
import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from metavox.errors import UserError

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2(2)
KERNEL_FOLDERS = ("/dev", "/proc")


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Yield a path to write a file or folder to; on success it becomes `target`, in one step.

    An existing target is replaced. Where `target` is a symbolic link, the link stays and what it points to is replaced. A
    FIFO or a device is written to and stays what it is. On an error, Ctrl-C included, what was written aside is removed
    and the target is as it was. Raises UserError that names `target` where it cannot be written.
    """
    if _is_stream(target):
        with tempfile.TemporaryDirectory() as folder:
            aside = Path(folder) / "written"
            yield aside
            _pour(aside, target)
        return
    place = Path(os.path.realpath(target))
    aside = place.with_name(f".{place.name}.{os.getpid()}.partial")
    with _naming(target, aside):
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove(aside)
        try:
            yield aside
            if not os.path.lexists(aside):
                raise FileNotFoundError(f"nothing was written to {aside}")
            _replace(aside, place)
        finally:
            _remove(aside)


def write_json(target: Path, value: object) -> None:
    with written_aside(target) as aside:
        aside.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # of a file name that is not UTF-8
        )


def check_output(target: Path, reads: Iterable[Path] = ()) -> None:
    """Raise UserError where `target` could not be written, or is one of `reads`: before the work, not after it."""
    if _is_stream(target):
        return
    place = Path(os.path.realpath(target))
    if place == Path.cwd() or place in Path.cwd().parents:
        raise UserError(f"{target}: is the folder that you are in, or holds it; expected a new name")
    if any(os.path.exists(read) and os.path.exists(place) and place.samefile(read) for read in reads):
        raise UserError(f"{target}: is also what is read, and would be lost; choose another name")
    above = next(folder for folder in place.parents if os.path.lexists(folder))
    if not above.is_dir():
        raise UserError(f"{target}: cannot be written, because {above} is no folder; choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{target}: cannot be written, because {above} takes no files; choose another place")


def _is_stream(target: Path) -> bool:
    """Whether `target` is there and is neither a file nor a folder, or belongs to the kernel, as /dev/stdout does."""
    try:
        mode = target.stat().st_mode
    except OSError:
        return False
    of_kernel = str(target.absolute()).startswith(KERNEL_FOLDERS) and not stat.S_ISDIR(mode)
    return of_kernel or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _pour(aside: Path, target: Path) -> None:
    if aside.is_dir():
        raise UserError(f"{target}: is no folder; choose another place")
    try:
        with aside.open("rb") as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({(error.strerror or str(error)).lower()})") from error


@contextmanager
def _naming(target: Path, aside: Path) -> Iterator[None]:
    """Errors about the hidden path, in the name of the one that was asked for."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or not _about(error, target, aside):
            raise
        why = (error.strerror or str(error)).lower()
        raise UserError(f"{target}: cannot be written ({why}); choose another place") from error


def _about(error: OSError, target: Path, aside: Path) -> bool:
    named = [Path(str(name)) for name in (error.filename, error.filename2) if name]
    ours = (aside, *aside.parents, target)
    return any(name in ours for name in named)


def _replace(aside: Path, place: Path) -> None:
    """`aside` under the name `place`. A folder cannot be renamed over another, so the two are exchanged in one step."""
    if not (place.is_dir() and os.path.lexists(place)):
        aside.replace(place)
    elif not _exchange(aside, place):
        old = aside.with_suffix(".old")
        _remove(old)
        place.rename(old)
        aside.replace(place)
        _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names at once; False where this system or file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    return libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
