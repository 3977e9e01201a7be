"""Atomic writes: no partial file or folder is ever visible, and an interruption never loses the previous version."""

import ctypes
import errno
import hashlib
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
    """Yield a path to write a file or folder to; on success it becomes `target` in one step.

    An existing target is replaced. If `target` is a symbolic link, the link stays and its destination is replaced. A
    FIFO or device is written to and stays what it is. On an error, including Ctrl-C, the partial output is removed and
    the target remains unchanged. Raises UserError that names `target` if it cannot be written.
    """
    if _is_stream(target):
        with tempfile.TemporaryDirectory() as folder:
            aside = Path(folder) / "written"
            yield aside
            _copy_to_stream(aside, target)
        return
    path = Path(os.path.realpath(target))
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _user_errors(target, aside):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(aside)
        try:
            yield aside
            if not os.path.lexists(aside):
                raise FileNotFoundError(f"nothing was written to {aside}")
            replace(aside, path)
        finally:
            _remove(aside)


def write_json(target: Path, value: object) -> None:
    """Write `value` to `target` as indented JSON, atomically."""
    with written_aside(target) as aside:
        aside.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # file names may not be UTF-8
        )


def content_digest(folder: Path) -> str:
    """A digest of the names and contents of all files of a model; responses of the service carry it."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()


def check_output(target: Path, reads: Iterable[Path] = ()) -> None:
    """Raise UserError, before any work is done, if `target` cannot be written or is one of the inputs `reads`."""
    if _is_stream(target):
        return
    path = Path(os.path.realpath(target))
    if path == Path.cwd() or path in Path.cwd().parents:
        raise UserError(f"{target}: is or contains the current folder; choose a new name")
    if any(os.path.exists(read) and os.path.exists(path) and path.samefile(read) for read in reads):
        raise UserError(f"{target}: is also an input, which would be lost; choose another name")
    parent = next(folder for folder in path.parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise UserError(f"{target}: cannot be written, because {parent} is not a folder; choose another path")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{target}: cannot be written, because {parent} is not writable; choose another path")


def _is_stream(target: Path) -> bool:
    """Whether `target` is a FIFO or device, or a file of the kernel such as /dev/stdout."""
    try:
        mode = target.stat().st_mode
    except OSError:
        return False
    of_kernel = str(target.absolute()).startswith(KERNEL_FOLDERS) and not stat.S_ISDIR(mode)
    return of_kernel or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _copy_to_stream(aside: Path, target: Path) -> None:
    if aside.is_dir():
        raise UserError(f"{target}: is not a folder; choose another path")
    try:
        with aside.open("rb") as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({(error.strerror or str(error)).lower()})") from error


@contextmanager
def _user_errors(target: Path, aside: Path) -> Iterator[None]:
    """Turn errors about the hidden partial path into UserErrors that name `target`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or not _concerns(error, target, aside):
            raise
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{target}: cannot be written ({reason}); choose another path") from error


def _concerns(error: OSError, target: Path, aside: Path) -> bool:
    paths = [Path(str(name)) for name in (error.filename, error.filename2) if name]
    own = (aside, *aside.parents, target)
    return any(path in own for path in paths)


def replace(aside: Path, path: Path) -> None:
    """Give `path` the content of `aside` in one step; a folder's old content is then at `aside`, or gone.

    A folder cannot be renamed over another, so the two are exchanged, or renamed one after the other where the system
    cannot exchange them.
    """
    if not (path.is_dir() and os.path.lexists(path)):
        aside.replace(path)
    elif not _exchange(aside, path):
        old = aside.with_suffix(".old")
        _remove(old)
        path.rename(old)
        aside.replace(path)
        _remove(old)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths in one step; False if the system or file system does not support it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    return libc.renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
