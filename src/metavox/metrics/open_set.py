"""Rejection of unknown words: how many are falsely accepted, and what rejecting them costs.

The curve is OSCR (Dhamija et al. 2018, section 4): over all thresholds, the share of known queries that are both
right and accepted, against the share of unknown queries that are accepted. Accuracy at 1% false accepts is one of its
points; at 100% false accepts it is the closed-set accuracy.
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
class OperatingCurve:
    """Shares over falling thresholds, each (points,), from nothing accepted to everything accepted.

    `false_accept` is the share of unknown queries accepted, `accept` that of known queries accepted, and `right` that of
    known queries both accepted and right.
    """

    threshold: np.ndarray
    false_accept: np.ndarray
    accept: np.ndarray
    right: np.ndarray

    def at(self, rate: float) -> int:
        """The index of the last point at which at most `rate` of the unknown queries are accepted."""
        return int(np.searchsorted(self.false_accept, rate + ROUNDING, side="right")) - 1

    @property
    def equal_error(self) -> float:
        """The error at which the share of known queries rejected equals that of unknown queries accepted.

        Linear interpolation between points.
        """
        gap = self.false_accept - (1 - self.accept)
        end = int(np.argmax(gap >= 0))
        before, after = gap[end - 1], gap[end]
        fraction = before / (before - after)
        low, high = self.false_accept[end - 1], self.false_accept[end]
        return float(low + fraction * (high - low))


class Attempts:
    """Scores of known and unknown queries, sorted once so that resampling episodes is cheap."""

    def __init__(self, trials: Trials) -> None:
        order = np.argsort(-trials.score, kind="stable")
        self._score, self._episode = trials.score[order], trials.episode[order]
        self._known, self._right = trials.known[order], trials.right[order]
        # Equal scores are accepted together.
        self._ends = np.flatnonzero(np.append(np.diff(self._score) != 0, True))

    def curve(self, weights: np.ndarray | None = None) -> OperatingCurve:
        """The operating curve; `weights` (episodes,) says how often each episode counts, once by default."""
        weight = np.ones(len(self._score)) if weights is None else weights[self._episode].astype(float)

        def shares(hits: np.ndarray, of: np.ndarray) -> np.ndarray:
            total = max(float((weight * of).sum()), ROUNDING)
            return np.append(0.0, np.cumsum(weight * hits)[self._ends] / total)

        return OperatingCurve(
            np.append(np.inf, self._score[self._ends]),
            shares(~self._known, ~self._known),
            shares(self._known, self._known),
            shares(self._right, self._known),
        )


@dataclass(frozen=True)
class OpenSet:
    """Figures at each false-accept rate: `accuracy[rate]`, the `threshold[rate]` that gives it, and the share of
    background queries (no speech) that this threshold accepts.

    `unknown` is the number of unknown queries.
    """

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
    """Figures of rejection at the false-accept `rates`; None without unknown or without known queries.

    Intervals are a bootstrap over episodes that sets the threshold anew in each draw. Where all draws agree, and for
    background queries, they are Wilson's, with one trial per distinct recording; NaN without background queries.
    """
    unknown = int((~trials.known).sum())
    if not unknown or not trials.known.any():
        return None
    attempts = Attempts(trials)
    curve = attempts.curve()
    random = np.random.default_rng(seed)
    count = len(trials.words)
    drawn: list[list[float]] = []
    for _ in range(RESAMPLES):
        draw = attempts.curve(np.bincount(random.integers(count, size=count), minlength=count))
        drawn.append([*(draw.right[draw.at(rate)] for rate in rates), draw.equal_error])
    *accuracies, equal_errors = np.array(drawn).T
    points = {rate: curve.at(rate) for rate in rates}
    thresholds = {rate: float(curve.threshold[point]) for rate, point in points.items()}
    background, known = trials.where(trials.background), len(np.unique(trials.row[trials.known]))
    recordings = min(known, len(np.unique(trials.row[~trials.known])))
    return OpenSet(
        {
            rate: bootstrap_interval(float(curve.right[points[rate]]), values, known)
            for rate, values in zip(rates, accuracies, strict=True)
        },
        thresholds,
        bootstrap_interval(curve.equal_error, equal_errors, recordings),
        {rate: _share(background.score >= limit, background.row) for rate, limit in thresholds.items()},
        unknown,
    )


def _share(hits: np.ndarray, row: np.ndarray) -> Interval:
    """The share of true `hits` (queries,), with one trial per distinct recording in `row` (queries,)."""
    trials = len(np.unique(row))
    return wilson(trials * float(hits.mean()), trials) if trials else wilson(0, 0)


def _name(rate: float) -> str:
    return f"{100 * rate:g}%"
