"""Comparison of the report on a tree with what is expected."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from planted.command import CommandResult
from planted.fault import EITHER, REFUSE, TAKE
from planted.trees import Expected, Tree


@dataclass(frozen=True)
class Planted:
    """A tree with all faults, and the result of `corpus add --dry-run` on it."""

    tree: Tree
    result: CommandResult
    requests: list[str]  # to the URL that is in the tree
    before: dict[str, tuple[object, ...]]
    after: dict[str, tuple[object, ...]]

    def __getitem__(self, name: str) -> Expected:
        if name in self.tree.skipped:
            pytest.skip(self.tree.skipped[name])
        return next(expected for expected in self.tree.expected if expected.name == name)


def check(expected: Expected, notes: str | None, reasons: str | None, known: bool) -> None:
    outcomes = [
        outcome
        for outcome, applies in ((TAKE, notes is not None), (REFUSE, reasons is not None), ("have", known))
        if applies
    ]
    assert len(outcomes) == 1, f"{expected.path} is accounted for as {outcomes}"
    message = notes if notes is not None else reasons or ""
    assert outcomes[0] in (expected.outcome, *((TAKE, REFUSE) if expected.outcome == EITHER else ())), message
    assert re.search(expected.message, message, re.IGNORECASE), (
        f"expected {expected.message}, got {message!r}"
    )


def files_under(top: Path) -> Iterator[str]:
    for folder, _, files in os.walk(top):
        for name in files:
            shown = os.path.relpath(os.path.join(folder, name), top)
            yield shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
