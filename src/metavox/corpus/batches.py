"""Batches of similar length and even cost, the same for the same seed, entered at any step."""

from collections.abc import Iterator

import numpy as np


def length_batches(frames: np.ndarray, budget: int, seed: int, mixing: float = 0.1) -> list[np.ndarray]:
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


class EndlessBatches:
    """Batch number `step` of an endless series of epochs: a pure function of the seed and the step."""

    def __init__(self, frames: np.ndarray, budget: int, seed: int, mixing: float = 0.1):
        if len(frames) == 0:
            raise ValueError("no rows to make batches of")
        self._frames, self._budget, self._seed, self._mixing = frames, budget, seed, mixing
        self._epochs: dict[int, list[np.ndarray]] = {}
        self._ends: list[int] = []

    def __call__(self, step: int) -> np.ndarray:
        while not self._ends or step >= self._ends[-1]:
            batches = self._epoch(len(self._ends))
            self._ends.append((self._ends[-1] if self._ends else 0) + len(batches))
        epoch = next(i for i, end in enumerate(self._ends) if step < end)
        first = self._ends[epoch - 1] if epoch else 0
        return self._epoch(epoch)[step - first]

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        if epoch not in self._epochs:
            seed = self._seed * 1000 + epoch
            self._epochs = {epoch: length_batches(self._frames, self._budget, seed, self._mixing)}
        return self._epochs[epoch]

    def __iter__(self) -> Iterator[np.ndarray]:
        step = 0
        while True:
            yield self(step)
            step += 1
