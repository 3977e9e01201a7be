"""95% intervals that remain valid if all trials succeed or all fail."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Z = 1.96  # standard errors on each side of a 95% interval
SAME = 1e-12  # values that differ by less count as equal


@dataclass(frozen=True)
class Interval:
    """A value and its 95% interval.

    `bounds` are the lower and upper ends if these are not symmetric around `mean`, as for a proportion near 0 or 1;
    `ci95` is then the larger of the two distances, so that `mean` ± `ci95` covers the interval. Without any data, the
    values are NaN.
    """

    mean: float
    ci95: float
    bounds: tuple[float, float] | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Interval":
        """The interval from a dictionary of `as_dict`, or from one with `mean` and `ci95` only."""
        mean, ci95 = (math.nan if value[key] is None else float(value[key]) for key in ("mean", "ci95"))
        limits = value.get("low"), value.get("high")
        low, high = (None if end is None else float(end) for end in limits)
        if (
            low is None or high is None or abs((mean - low) - (high - mean)) < 2e-6
        ):  # symmetric up to the rounding of as_dict
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
        """`62.0 ± 3.1%`, or `100.0% (61.0 to 100.0%)` for an asymmetric interval; only the value if the interval is
        unknown, and a dash for NaN."""
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
    """The proportion of successful trials with Wilson's score interval (Wilson 1927); NaN without a trial.

    Ten successes in ten trials, for example, give 1.0 with an interval from 0.72 to 1.0. `successes` may be fractional,
    such as an average over repetitions of the trials.
    """
    if trials < 1:
        return UNKNOWN
    proportion = successes / trials
    centre = (proportion + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
    spread = proportion * (1 - proportion) / trials + Z**2 / (4 * trials**2)
    half = Z / (1 + Z**2 / trials) * math.sqrt(max(0.0, spread))
    return Interval.between(
        proportion, min(proportion, max(0.0, centre - half)), max(proportion, min(1.0, centre + half))
    )


def mean_interval(values: Sequence[float] | np.ndarray, trials: int | None = None) -> Interval:
    """Mean of independent values, such as those of episodes, with a normal interval.

    If all values are equal, for example because every episode was answered correctly, their spread is not informative.
    A mean in 0..1 then gets Wilson's interval for `trials` trials, by default one per value; for any other value, or
    with `trials` 0 (as for differences), the interval is unknown and has width 0.
    """
    values = np.asarray(values, dtype=float)
    if np.ptp(values) < SAME:
        return _without_spread(float(values.mean()), len(values) if trials is None else trials)
    return Interval(float(values.mean()), float(Z * values.std(ddof=1) / np.sqrt(len(values))))


def bootstrap_interval(value: float, samples: Sequence[float] | np.ndarray, trials: int) -> Interval:
    """A value with half the width of the central 95% of its bootstrap samples.

    If that width is 0, a value in 0..1 gets Wilson's interval for `trials` trials (the number of distinct recordings);
    for any other value the interval is unknown.
    """
    low, high = np.percentile(samples, (2.5, 97.5))
    if high - low < SAME:
        return _without_spread(value, trials)
    return Interval(value, float(high - low) / 2)


def error_rate(edits: int, length: int) -> Interval:
    """Error rate of `edits` in a reference of `length` words, for when utterances show no spread; NaN without a word.

    The interval is Wilson's for the share of wrong words. If there are more edits than words, so that the rate is not a
    proportion, it is the exact interval of a Poisson count (Garwood 1936).
    """
    if edits <= length:
        return wilson(edits, length)
    if not length:
        return UNKNOWN
    from scipy.special import gammaincinv

    low, high = gammaincinv(edits, 0.025) / length, gammaincinv(edits + 1, 0.975) / length
    return Interval.between(edits / length, float(low), float(high))


def share_gone(before: int, after: int) -> Interval:
    """Relative error reduction from `before` to `after` errors, for when utterances show no spread; NaN without an error
    before.

    Both are treated as Poisson counts. The errors after are then binomially distributed given the sum of both
    (Przyborowski & Wilenski 1940), and Wilson's interval of that share gives the interval of the ratio.
    """
    if not before:
        return UNKNOWN
    remaining = wilson(after, before + after)
    low, high = (1 - share / (1 - share) for share in (remaining.high, remaining.low))
    return Interval.between(1 - after / before, low, high)


def _without_spread(value: float, trials: int) -> Interval:
    return wilson(value * trials, trials) if trials and 0 <= value <= 1 else Interval(value, 0.0)
