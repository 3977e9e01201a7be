"""What was said of a tree, held against what is expected of it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from planted.fault import EITHER, REFUSE, TAKE
from planted.running import Ran
from planted.trees import Expected, Tree


@dataclass(frozen=True)
class Planted:
    """A tree with everything in it, and what `corpus add --dry-run` said of it."""

    tree: Tree
    ran: Ran
    calls: list[str]  # of the address that is in the tree
    before: dict[str, tuple[object, ...]]
    after: dict[str, tuple[object, ...]]

    def __getitem__(self, name: str) -> Expected:
        if name in self.tree.skipped:
            pytest.skip(self.tree.skipped[name])
        return next(expected for expected in self.tree.expected if expected.name == name)


def check(expected: Expected, notes: str | None, reasons: str | None, had: bool) -> None:
    outcomes = [
        outcome
        for outcome, it_is in ((TAKE, notes is not None), (REFUSE, reasons is not None), ("have", had))
        if it_is
    ]
    assert len(outcomes) == 1, f"{expected.path} is accounted for as {outcomes}"
    told = notes if notes is not None else reasons or ""
    assert outcomes[0] in (expected.outcome, *((TAKE, REFUSE) if expected.outcome == EITHER else ())), told
    assert re.search(expected.told, told, re.IGNORECASE), f"expected {expected.told}, was told {told!r}"


def files_under(top: Path) -> Iterator[str]:
    for folder, _, files in os.walk(top):
        for name in files:
            shown = os.path.relpath(os.path.join(folder, name), top)
            yield shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
