"""Batches of similar length and even cost, the same for the same seed, entered at any step.

lhotse's bucketing samplers were measured on the same rows (docs/research/scale.md): at equal padding they make more batches, of
which some are nearly empty, and cannot be entered at a step without the epochs before it. `corpus.cuts` is for who uses them.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


def length_batches(
    frames: np.ndarray, budget: int, seed: int | Sequence[int], mixing: float = 0.1
) -> list[np.ndarray]:
    """One epoch: every row once, in batches that hold at most about `budget` frames, padding included.

    `frames`: (rows,) length of each row. Rows share a batch when their lengths agree within about `mixing`:
    the less of it, the less padding. Which ones meet, and the order of the batches, depends on `seed`.
    """
    random = np.random.default_rng(seed)
    order = np.argsort(frames * random.uniform(1 - mixing, 1 + mixing, len(frames)), kind="stable")
    batches, start, longest = [], 0, 0
    for end, row in enumerate(order):
        longest = max(longest, int(frames[row]))
        if end > start and longest * (end + 1 - start) > budget:
            batches.append(order[start:end])
            start, longest = end, int(frames[row])
    last = order[start:]
    if batches and longest * len(last) < budget / 2:  # a crumb teaches nothing: the one before shares with it
        both = np.concatenate([batches.pop(), last])
        fit = max(1, budget // int(frames[both].max()))
        cut = 0 if len(both) <= fit else len(both) - min(fit, len(both) // 2)
        batches += [both[:cut]] if cut else []
        last = both[cut:]
    batches.append(last)
    return [batches[i] for i in random.permutation(len(batches))]


def pair_batches(
    labels: np.ndarray, frames: np.ndarray, budget: int, seed: int | Sequence[int], mixing: float = 0.1
) -> list[np.ndarray]:
    """As `length_batches`, of rows that come two by two: rows 2i and 2i + 1 of a batch are two of one label.

    Which ones of a label meet depends on `seed`; of an odd number one is left out.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1]
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    pairs = order[place < np.repeat(counts // 2 * 2, counts)].reshape(-1, 2)
    batches = length_batches(frames[pairs].max(axis=1), budget // 2, seed, mixing)
    return [pairs[batch].ravel() for batch in batches]


class Endless(Generic[T]):
    """Lists `make(0)`, `make(1)`, ... one after another, entered at any place; one list is kept, and their lengths."""

    def __init__(self, make: Callable[[int], list[T]]):
        self._make = make
        self._kept: tuple[int, list[T]] | None = None
        self._ends: list[int] = []

    def place(self, number: int) -> tuple[int, int]:
        """Which list, and where in it."""
        while not self._ends or number >= self._ends[-1]:
            size = len(self.items(len(self._ends)))
            self._ends.append((self._ends[-1] if self._ends else 0) + size)
        which = bisect_right(self._ends, number)
        return which, number - (self._ends[which - 1] if which else 0)

    def items(self, which: int) -> list[T]:
        if self._kept is None or self._kept[0] != which:
            self._kept = which, self._make(which)
        return self._kept[1]

    def __call__(self, number: int) -> T:
        which, position = self.place(number)
        return self.items(which)[position]


class EndlessBatches:
    """Batch number `step` of an endless series of epochs: a pure function of the seed and the step.

    With `labels` (rows,) the rows of a batch come in pairs of one label.

    Rank r of `world` gets every `world`-th batch of the one series: an epoch's rows are shared out, none twice, and
    no rank waits for another at an epoch's end.
    """

    def __init__(
        self,
        frames: np.ndarray,
        budget: int,
        seed: int,
        mixing: float = 0.1,
        rank: int = 0,
        world: int = 1,
        labels: np.ndarray | None = None,
    ):
        if len(frames) == 0:
            raise ValueError("no rows to make batches of")

        def epoch(number: int) -> list[np.ndarray]:
            if labels is None:
                return length_batches(frames, budget, seed * 1000 + number, mixing)
            return pair_batches(labels, frames, budget, seed * 1000 + number, mixing)

        self._series = Endless(epoch)
        self._rank, self._world = rank, world

    def __call__(self, step: int) -> np.ndarray:
        return self._series(step * self._world + self._rank)

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self, count())
