"""File locks that the system releases when the process that holds them ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a lock on the file `path`; yields False when another process holds it. With `wait`, waits for it instead."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
