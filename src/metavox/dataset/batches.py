"""Batches of similar length and even cost that depend on the seed alone and can be resumed at any step.

lhotse's bucketing samplers were measured on the same rows (docs/research/scale.md). At equal padding they make more
batches, some of them nearly empty, and they cannot resume at a step without going through the epochs before it.
`dataset.cuts` supports projects that use them.
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
    """One epoch: every row once, in batches of at most about `budget` frames, padding included.

    `frames` (rows,) is the length of each row. Rows share a batch if their lengths agree within about the fraction
    `mixing`; less mixing means less padding. `seed` decides which rows share a batch, and the order of the batches.
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
    if batches and longest * len(last) < budget / 2:  # balance a tiny last batch with the one before it
        both = np.concatenate([batches.pop(), last])
        capacity = max(1, budget // int(frames[both].max()))
        cut = 0 if len(both) <= capacity else len(both) - min(capacity, len(both) // 2)
        batches += [both[:cut]] if cut else []
        last = both[cut:]
    batches.append(last)
    return [batches[i] for i in random.permutation(len(batches))]


def pair_batches(
    labels: np.ndarray, frames: np.ndarray, budget: int, seed: int | Sequence[int], mixing: float = 0.1
) -> list[np.ndarray]:
    """As `length_batches`, in pairs: rows 2i and 2i + 1 of a batch have the same label.

    `labels` (rows,). `seed` decides which rows of a label are paired; one row is left out if their number is odd.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its label
    pairs = order[rank < np.repeat(counts // 2 * 2, counts)].reshape(-1, 2)
    batches = length_batches(frames[pairs].max(axis=1), budget // 2, seed, mixing)
    return [pairs[batch].ravel() for batch in batches]


class Endless(Generic[T]):
    """The lists `make(0)`, `make(1)`, ... as one endless list with random access. Keeps one list and all lengths."""

    def __init__(self, make: Callable[[int], list[T]]):
        self._make = make
        self._cached: tuple[int, list[T]] | None = None
        self._ends: list[int] = []

    def locate(self, index: int) -> tuple[int, int]:
        """The number of the list that holds item `index`, and the item's position in it."""
        while not self._ends or index >= self._ends[-1]:
            size = len(self.items(len(self._ends)))
            self._ends.append((self._ends[-1] if self._ends else 0) + size)
        block = bisect_right(self._ends, index)
        return block, index - (self._ends[block - 1] if block else 0)

    def items(self, block: int) -> list[T]:
        if self._cached is None or self._cached[0] != block:
            self._cached = block, self._make(block)
        return self._cached[1]

    def __call__(self, index: int) -> T:
        block, position = self.locate(index)
        return self.items(block)[position]


class EndlessBatches:
    """The batch of a step, as row positions (batch,), in an endless series of epochs: a pure function of seed and step.

    With `labels` (rows,), the rows of a batch come in pairs of one label. Each of `world` ranks gets every `world`-th
    batch of the same series, so ranks share an epoch without overlap and do not wait for each other at its end.
    Raises ValueError without rows.
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

        def make_epoch(epoch: int) -> list[np.ndarray]:
            if labels is None:
                return length_batches(frames, budget, seed * 1000 + epoch, mixing)
            return pair_batches(labels, frames, budget, seed * 1000 + epoch, mixing)

        self._series = Endless(make_epoch)
        self._rank, self._world = rank, world

    def __call__(self, step: int) -> np.ndarray:
        return self._series(step * self._world + self._rank)

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self, count())
