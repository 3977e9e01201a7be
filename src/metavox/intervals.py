"""Figures with 95% intervals that stay honest when everything is right, or everything wrong."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Z = 1.96  # standard errors on each side of a 95% interval
SAME = 1e-12  # values that differ by less are equal


@dataclass(frozen=True)
class Interval:
    """A figure and its 95% interval.

    `bounds` are the lower and the upper end where these are not equally far from `mean`, as those of a proportion near
    0 or 1 are; `ci95` then is the larger of the two distances, so that `mean` ± `ci95` covers the interval. A figure
    with nothing to count is NaN.
    """

    mean: float
    ci95: float
    bounds: tuple[float, float] | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Interval":
        """From what `as_dict` made, or from `mean` and `ci95` alone."""
        mean, ci95 = (math.nan if value[key] is None else float(value[key]) for key in ("mean", "ci95"))
        ends = value.get("low"), value.get("high")
        low, high = (None if end is None else float(end) for end in ends)
        if low is None or high is None or abs((mean - low) - (high - mean)) < 2e-6:  # as_dict rounds
            return cls(mean, ci95)
        return cls(mean, ci95, (low, high))

    @classmethod
    def between(cls, mean: float, low: float, high: float) -> "Interval":
        return cls(mean, max(mean - low, high - mean), (low, high))

    @property
    def low(self) -> float:
        return self.bounds[0] if self.bounds else self.mean - self.ci95

    @property
    def high(self) -> float:
        return self.bounds[1] if self.bounds else self.mean + self.ci95

    def as_dict(self) -> dict[str, float | None]:
        values = {"mean": self.mean, "ci95": self.ci95, "low": self.low, "high": self.high}
        return {name: None if math.isnan(value) else round(value, 6) for name, value in values.items()}

    def __str__(self) -> str:
        return self.percent("")

    def percent(self, unit: str = "%") -> str:
        """`62.0 ± 3.1%`, or `100.0% (61.0 to 100.0%)` where the ends are not equally far; a dash where nothing was
        counted, and no interval where none is known."""
        if math.isnan(self.mean):
            return "–"
        mean, low, high = (f"{100 * value:.1f}" for value in (self.mean, self.low, self.high))
        if self.ci95 < SAME:
            return f"{mean}{unit}"
        if abs((self.mean - self.low) - (self.high - self.mean)) < 0.005:
            return f"{mean} ± {100 * self.ci95:.1f}{unit}"
        return f"{mean}{unit} ({low} to {high}{unit})"


UNKNOWN = Interval(math.nan, math.nan)


def wilson(successes: float, trials: int) -> Interval:
    """The proportion of `trials` that succeeded, with Wilson's score interval (Wilson 1927); NaN without a trial.

    Ten successes of ten leave it uncertain whether the next one is a success: 1.0, from 0.72 to 1.0. `successes` may be
    a fraction, as of a proportion that was averaged over repeats of the trials.
    """
    if trials < 1:
        return UNKNOWN
    share = successes / trials
    middle = (share + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
    spread = share * (1 - share) / trials + Z**2 / (4 * trials**2)
    half = Z / (1 + Z**2 / trials) * math.sqrt(max(0.0, spread))
    return Interval.between(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def mean_interval(values: Sequence[float] | np.ndarray, trials: int | None = None) -> Interval:
    """Mean over independent values (episodes), by the normal approximation.

    Where all values are equal, as they are when every episode was answered right, their spread says nothing. A share is
    then taken for a proportion of `trials`, else of as many trials as there are values, with Wilson's interval; of any
    other figure, and with no trial, as of differences, no interval is known.
    """
    values = np.asarray(values, dtype=float)
    if np.ptp(values) < SAME:
        return _without_spread(float(values.mean()), len(values) if trials is None else trials)
    return Interval(float(values.mean()), float(Z * values.std(ddof=1) / np.sqrt(len(values))))


def bootstrap_interval(value: float, drawn: Sequence[float] | np.ndarray, trials: int) -> Interval:
    """A figure, and half the width of the middle 95% of its bootstrap.

    Where that has no width, a share is taken for a proportion of `trials` (the different recordings that it is about),
    with Wilson's interval; of any other figure no interval is known.
    """
    low, high = np.percentile(drawn, (2.5, 97.5))
    if high - low < SAME:
        return _without_spread(value, trials)
    return Interval(value, float(high - low) / 2)


def error_rate(edits: int, length: int) -> Interval:
    """Edits of a reference of `length` words, where utterances show no spread to draw from; NaN without a word.

    Wilson's interval on the words that are wrong; where there are more edits than words, which no proportion allows, the
    exact interval of a Poisson count (Garwood 1936).
    """
    if edits <= length:
        return wilson(edits, length)
    if not length:
        return UNKNOWN
    from scipy.special import gammaincinv

    low, high = gammaincinv(edits, 0.025) / length, gammaincinv(edits + 1, 0.975) / length
    return Interval.between(edits / length, float(low), float(high))


def share_gone(before: int, after: int) -> Interval:
    """The share of `before` errors that is gone when `after` are left, where utterances show no spread to draw from.

    The two are taken for Poisson counts, so that the errors left are a binomial part of all (Przyborowski & Wilenski
    1940), whose Wilson interval gives that of the ratio. NaN without an error before.
    """
    if not before:
        return UNKNOWN
    left = wilson(after, before + after)
    low, high = (1 - part / (1 - part) for part in (left.high, left.low))
    return Interval.between(1 - after / before, low, high)


def _without_spread(value: float, trials: int) -> Interval:
    return wilson(value * trials, trials) if trials and 0 <= value <= 1 else Interval(value, 0.0)
