"""One arm against another on the same episodes of the same seeds."""

from collections.abc import Sequence

import numpy as np

from metavox.metrics.rates import Interval

DRAWS = 2000


def less_error(
    arm: Sequence[np.ndarray], baseline: Sequence[np.ndarray], seed: int = 0, draws: int = DRAWS
) -> Interval:
    """Accuracies (episodes,) a training seed, both in the same order -> the share of the baseline's error that is gone.

    The interval is half the span of 95% of `draws` in which seeds and their episodes were drawn again, the same ones
    for both (paired bootstrap). Raises ValueError where the two have not the same seeds and episodes.
    """
    if [len(one) for one in arm] != [len(one) for one in baseline]:
        raise ValueError(f"{[len(one) for one in arm]} and {[len(one) for one in baseline]} episodes by seed")
    random = np.random.default_rng(seed)
    pairs = [(1 - np.asarray(a, float), 1 - np.asarray(b, float)) for a, b in zip(arm, baseline, strict=True)]

    def drawn() -> float:
        errors = []
        for which in random.integers(len(pairs), size=len(pairs)):
            episodes = random.integers(len(pairs[which][0]), size=len(pairs[which][0]))
            errors.append([side[episodes].mean() for side in pairs[which]])
        return _gain(errors)

    low, high = np.percentile([drawn() for _ in range(draws)], (2.5, 97.5))
    return Interval(_gain([[side.mean() for side in pair] for pair in pairs]), float(high - low) / 2)


def _gain(errors: list[list[float]]) -> float:
    ours, theirs = np.mean(errors, axis=0)
    return float(1 - ours / theirs) if theirs else 0.0
