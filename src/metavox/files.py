"""Writing so that no partial artifact ever looks whole."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or folder to; rename it to `target` on success.

    An existing target is replaced. On an error, Ctrl-C included, what was written aside is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    old = aside.with_suffix(".old")
    _remove(aside)
    try:
        yield aside
        if not os.path.lexists(aside):
            raise FileNotFoundError(f"nothing was written to {aside}")
        if target.is_dir() and not target.is_symlink():
            target.rename(old)  # a folder cannot be renamed over another
        aside.replace(target)
    finally:
        _remove(aside)
        _remove(old)


def write_json(target: Path, value: object) -> None:
    with written_aside(target) as aside:
        aside.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n", encoding="utf-8"
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
