"""Accuracy and false accepts by speaker, language, environment or source of the queries."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metavox.intervals import Interval, bootstrap_interval
from metavox.metrics.open_set import RESAMPLES, OpenSet
from metavox.metrics.trials import Trials

COLUMNS = ("speaker", "language", "environment", "source")
MIN_RECORDINGS, MIN_EPISODES = 10, 10  # an interval over fewer is misleading
UNNAMED = "(not named)"


@dataclass(frozen=True)
class Slice:
    """The queries that share a value of a column.

    `right[rate]` is the share of known queries that are right and accepted, and `false_accept[rate]` that of unknown
    queries accepted, both at the threshold that gives `rate` over all queries. `accuracy` is None for a slice that is too
    small to measure.
    """

    value: str
    recordings: int
    episodes: int
    accuracy: Interval | None
    right: dict[float, Interval]
    false_accept: dict[float, Interval]

    @property
    def too_small(self) -> bool:
        return self.accuracy is None

    def as_dict(self) -> dict[str, object]:
        about: dict[str, object] = {
            "value": self.value,
            "recordings": self.recordings,
            "episodes": self.episodes,
        }
        if self.accuracy is None:
            return {**about, "too_small": True}
        named = (("accuracy_at_false_accepts", self.right), ("false_accepts", self.false_accept))
        rates = {
            name: {f"{100 * rate:g}%": value.as_dict() for rate, value in by.items()}
            for name, by in named
            if by
        }
        return {**about, "accuracy": self.accuracy.as_dict(), **rates}


def slices(trials: Trials, values: np.ndarray, overall: OpenSet | None, seed: int = 0) -> list[Slice]:
    """One slice per value, those with most queries first; `values` (rows,) has the value of each recording."""
    of_query = values[trials.row]
    names, counts = np.unique(of_query[trials.known], return_counts=True)
    order = names[np.argsort(-counts, kind="stable")]
    return [_slice(str(name), trials.where(of_query == name), overall, seed) for name in order]


def _slice(name: str, own: Trials, overall: OpenSet | None, seed: int) -> Slice:
    known = own.where(own.known)
    recordings, episodes = len(np.unique(known.row)), len(np.unique(known.episode))
    if recordings < MIN_RECORDINGS or episodes < MIN_EPISODES:
        return Slice(name or UNNAMED, recordings, episodes, None, {}, {})
    thresholds: Mapping[float, float] = overall.threshold if overall else {}
    unknown = own.where(~own.known)
    return Slice(
        name or UNNAMED,
        recordings,
        episodes,
        ratio(known.right, known.episode, known.row, seed),
        {
            rate: ratio(known.right & (known.score >= limit), known.episode, known.row, seed)
            for rate, limit in thresholds.items()
        },
        {
            rate: ratio(unknown.score >= limit, unknown.episode, unknown.row, seed)
            for rate, limit in thresholds.items()
            if len(unknown)
        },
    )


def ratio(hits: np.ndarray, episode: np.ndarray, row: np.ndarray, seed: int = 0) -> Interval:
    """The share of true `hits`; `hits`, `episode` and `row` are (queries,) each.

    The interval is a bootstrap over episodes, or Wilson's with one trial per distinct recording where all draws agree.
    """
    _, index = np.unique(episode, return_inverse=True)
    count, total = np.bincount(index, hits.astype(float)), np.bincount(index)
    picks = np.random.default_rng(seed).integers(len(total), size=(RESAMPLES, len(total)))
    drawn = count[picks].sum(axis=1) / total[picks].sum(axis=1)
    return bootstrap_interval(float(hits.mean()), drawn, len(np.unique(row)))
