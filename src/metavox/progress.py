"""A sign of life from whatever takes long: a bar at a terminal, else a plain line every ten seconds."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
EVERY_S, SOON_S = 10.0, 0.3


class Progress:
    """`done` of `total` (where it is known) `unit`s of `what`; `advance` is called as they are done."""

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0):
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self.note = ""
        self._began = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more are done; `note` is what there is to say of them, such as a loss."""
        self.done += count
        self.note = note or self.note

    def __str__(self) -> str:
        counted = f" of {self.total}" if self.total is not None else ""
        told = [f"{self.done}{counted} {self.unit}".strip()] if self.total is not None or self.done else []
        told += [self.note] if self.note else []
        return f"{self.what}: {', '.join([*told, f'{time.monotonic() - self._began:.0f} s'])}"


@contextmanager
def bar(what: str, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Progress]:
    """Shown on standard error for the length of a `with`, `done` of them already. What ends sooner than in ten seconds
    leaves no line."""
    progress = Progress(what, total, unit, done)
    ended = threading.Event()
    show = _draw if sys.stderr.isatty() else _tell
    shower = threading.Thread(target=show, args=(progress, ended), daemon=True)
    shower.start()
    try:
        yield progress
    finally:
        ended.set()
        shower.join()


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """The items, one after another; `total` is how many there are where `items` cannot say."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def _tell(progress: Progress, ended: threading.Event) -> None:
    """A line every ten seconds, also while one item takes longer; and one at the end, where there was any."""
    told = False
    while not ended.wait(EVERY_S):
        print(progress, file=sys.stderr, flush=True)
        told = True
    if told:
        print(progress, file=sys.stderr, flush=True)


def _draw(progress: Progress, ended: threading.Event) -> None:
    if ended.wait(SOON_S):
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}")
    console = Console(stderr=True)
    with Bars(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        task = bars.add_task(progress.what, total=progress.total, told="")
        over = False
        while not over:
            over = ended.wait(0.1)
            counted = str(progress.done) + (f"/{progress.total}" if progress.total is not None else "")
            told = f"{counted} {progress.unit} {progress.note}"
            bars.update(task, completed=progress.done, told=told, refresh=over)
