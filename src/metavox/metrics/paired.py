"""Paired comparison of two arms on the same episodes and seeds."""

from collections.abc import Sequence

import numpy as np

from metavox.metrics.rates import Interval

DRAWS = 2000


def relative_error_reduction(
    arm: Sequence[np.ndarray], baseline: Sequence[np.ndarray], seed: int = 0, draws: int = DRAWS
) -> Interval:
    """The share of the baseline's error that the arm avoids; 0 where the baseline has no error.

    `arm` and `baseline` hold accuracies, (episodes,) per training seed, in the same order. The interval is half the span
    of 95% of `draws` of a paired bootstrap over seeds and their episodes. Raises ValueError when the two differ in their
    seeds or episodes.
    """
    counts = [[len(accuracies) for accuracies in side] for side in (arm, baseline)]
    if counts[0] != counts[1]:
        raise ValueError(f"got {counts[0]} and {counts[1]} episodes by seed; expected the same for both arms")
    random = np.random.default_rng(seed)
    pairs = [(1 - np.asarray(a, float), 1 - np.asarray(b, float)) for a, b in zip(arm, baseline, strict=True)]

    def draw() -> float:
        errors = []
        for i in random.integers(len(pairs), size=len(pairs)):
            episodes = random.integers(len(pairs[i][0]), size=len(pairs[i][0]))
            errors.append([side[episodes].mean() for side in pairs[i]])
        return _reduction(errors)

    low, high = np.percentile([draw() for _ in range(draws)], (2.5, 97.5))
    return Interval(_reduction([[side.mean() for side in pair] for pair in pairs]), float(high - low) / 2)


def _reduction(errors: list[list[float]]) -> float:
    arm, baseline = np.mean(errors, axis=0)
    return float(1 - arm / baseline) if baseline else 0.0
