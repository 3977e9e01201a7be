"""Progress of long work on standard error: a bar at a terminal, else a line every ten seconds."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
LINE_INTERVAL_S, BAR_DELAY_S = 10.0, 0.3


class Progress:
    """Work called `what`: `done` of `total` (if known) items, counted in `unit`. Call `advance` for finished items."""

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0):
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self.note = ""
        self._start = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more items as done; `note` is shown with them, such as a loss."""
        self.done += count
        self.note = note or self.note

    def __str__(self) -> str:
        of_total = f" of {self.total}" if self.total is not None else ""
        details = (
            [f"{self.done}{of_total} {self.unit}".strip()] if self.total is not None or self.done else []
        )
        details += [self.note] if self.note else []
        return f"{self.what}: {', '.join([*details, f'{time.monotonic() - self._start:.0f} s'])}"


@contextmanager
def bar(
    what: str, total: int | None = None, unit: str = "", done: int = 0, shown: bool = True
) -> Iterator[Progress]:
    """Show progress for the length of a `with` block, starting at `done`. Outside a terminal, work that ends within ten
    seconds prints nothing; with `shown` false, no work does."""
    progress = Progress(what, total, unit, done)
    if not shown:
        yield progress
        return
    ended = threading.Event()
    show = _draw if sys.stderr.isatty() else _print_lines
    display = threading.Thread(target=show, args=(progress, ended), daemon=True)
    display.start()
    try:
        yield progress
    finally:
        ended.set()
        display.join()


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """Yield the items and show progress; `total` is their number if `items` has no length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def _print_lines(progress: Progress, ended: threading.Event) -> None:
    """Print a line every ten seconds, even while one item takes longer, and a last one at the end if any was printed."""
    printed = False
    while not ended.wait(LINE_INTERVAL_S):
        print(progress, file=sys.stderr, flush=True)
        printed = True
    if printed:
        print(progress, file=sys.stderr, flush=True)


def _draw(progress: Progress, ended: threading.Event) -> None:
    if ended.wait(BAR_DELAY_S):
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[details]}")
    console = Console(stderr=True)
    with Bars(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        task = bars.add_task(progress.what, total=progress.total, details="")
        over = False
        while not over:
            over = ended.wait(0.1)
            count = str(progress.done) + (f"/{progress.total}" if progress.total is not None else "")
            details = f"{count} {progress.unit} {progress.note}"
            bars.update(task, completed=progress.done, details=details, refresh=over)
