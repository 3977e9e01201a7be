"""Output of the commands: a spinner while they work, and tables."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import typer

T = TypeVar("T")


def waiting(what: str, work: Callable[[], T]) -> T:
    """Return `work()`, showing a spinner with the text `what` on standard error meanwhile."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        return work()


def table(title: str, heads: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> None:
    """Print a table with a title, column heads, and one tuple of cells per line."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    typer.echo(title)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for head in heads:
        table.add_column(head)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
