"""Words that were never taught: how many are taken for one that was, and what turning them away costs.

The curve is OSCR (Dhamija et al. 2018, section 4): over all thresholds, the share of known queries that are both
right and accepted, against the share of unknown queries that are accepted. `accuracy at 1% false accepts` is a point
of it; at 100% it is the accuracy that knows no rejection.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metavox.intervals import Interval, bootstrap_interval, wilson
from metavox.metrics.trials import Trials

RATES = (0.01, 0.05)
RESAMPLES = 400
ROUNDING = 1e-9


@dataclass(frozen=True)
class Operating:
    """Shares over falling thresholds, each (points,), from nothing accepted to everything.

    `false_accept` of the unknown, `accept` of the known, `right` of the known: accepted and right.
    """

    threshold: np.ndarray
    false_accept: np.ndarray
    accept: np.ndarray
    right: np.ndarray

    def at(self, rate: float) -> int:
        """The last point at which no more than `rate` of the unknown are accepted."""
        return int(np.searchsorted(self.false_accept, rate + ROUNDING, side="right")) - 1

    @property
    def equal_error(self) -> float:
        """Where as large a share of the known is turned away as of the unknown is accepted (linear between points)."""
        gap = self.false_accept - (1 - self.accept)
        end = int(np.argmax(gap >= 0))
        before, after = gap[end - 1], gap[end]
        part = before / (before - after)
        low, high = self.false_accept[end - 1], self.false_accept[end]
        return float(low + part * (high - low))


class Attempts:
    """Scores of known and unknown queries, sorted once, so that episodes can be drawn again cheaply."""

    def __init__(self, trials: Trials) -> None:
        order = np.argsort(-trials.score, kind="stable")
        self._score, self._episode = trials.score[order], trials.episode[order]
        self._known, self._right = trials.known[order], trials.right[order]
        # Equal scores are accepted together.
        self._ends = np.flatnonzero(np.append(np.diff(self._score) != 0, True))

    def operating(self, weights: np.ndarray | None = None) -> Operating:
        """`weights` (episodes,): how often each episode counts."""
        each = np.ones(len(self._score)) if weights is None else weights[self._episode].astype(float)

        def shares(counted: np.ndarray, of: np.ndarray) -> np.ndarray:
            total = max(float((each * of).sum()), ROUNDING)
            return np.append(0.0, np.cumsum(each * counted)[self._ends] / total)

        return Operating(
            np.append(np.inf, self._score[self._ends]),
            shares(~self._known, ~self._known),
            shares(self._known, self._known),
            shares(self._right, self._known),
        )


@dataclass(frozen=True)
class OpenSet:
    """`accuracy[rate]` at false accepts of `rate`, with the `threshold` that gives them and who else was let in."""

    accuracy: dict[float, Interval]
    threshold: dict[float, float]
    equal_error: Interval
    background_accepted: dict[float, Interval]
    unknown: int

    def as_dict(self) -> dict[str, object]:
        return {
            "accuracy_at_false_accepts": {_name(r): value.as_dict() for r, value in self.accuracy.items()},
            "equal_error_rate": self.equal_error.as_dict(),
            "threshold": {_name(rate): round(value, 6) for rate, value in self.threshold.items()},
            "background_accepted": {
                _name(r): value.as_dict() for r, value in self.background_accepted.items()
            },
            "unknown_queries": self.unknown,
        }


def open_set(trials: Trials, rates: Sequence[float] = RATES, seed: int = 0) -> OpenSet | None:
    """None without unknown queries. Intervals: bootstrap over episodes, threshold and all; Wilson's, of as many trials as
    there are different recordings, where all draws agree, and for recordings without speech (NaN where there is none)."""
    unknown = int((~trials.known).sum())
    if not unknown or not trials.known.any():
        return None
    attempts = Attempts(trials)
    whole = attempts.operating()
    random = np.random.default_rng(seed)
    count = len(trials.words)
    drawn: list[list[float]] = []
    for _ in range(RESAMPLES):
        again = attempts.operating(np.bincount(random.integers(count, size=count), minlength=count))
        drawn.append([*(again.right[again.at(rate)] for rate in rates), again.equal_error])
    *at, equal = np.array(drawn).T
    points = {rate: whole.at(rate) for rate in rates}
    thresholds = {rate: float(whole.threshold[point]) for rate, point in points.items()}
    silent, known = trials.where(trials.background), len(np.unique(trials.row[trials.known]))
    recordings = min(known, len(np.unique(trials.row[~trials.known])))
    return OpenSet(
        {
            rate: bootstrap_interval(float(whole.right[points[rate]]), values, known)
            for rate, values in zip(rates, at, strict=True)
        },
        thresholds,
        bootstrap_interval(whole.equal_error, equal, recordings),
        {rate: _share(silent.score >= limit, silent.row) for rate, limit in thresholds.items()},
        unknown,
    )


def _share(hits: np.ndarray, row: np.ndarray) -> Interval:
    """The share of queries (queries,) that hit, of as many trials as there are different recordings among them."""
    trials = len(np.unique(row))
    return wilson(trials * float(hits.mean()), trials) if trials else wilson(0, 0)


def _name(rate: float) -> str:
    return f"{100 * rate:g}%"
