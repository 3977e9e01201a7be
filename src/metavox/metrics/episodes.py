"""Figures of few-shot episodes, with 95% intervals over episodes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from metavox.dataset.episodes import Episode
from metavox.enrolment.prototypes import Method
from metavox.intervals import Interval, mean_interval
from metavox.metrics.calibration import calibration_error
from metavox.metrics.open_set import OpenSet, open_set
from metavox.metrics.rates import classification
from metavox.metrics.trials import Trials, run_trials

MEASURES = ("accuracy", "precision", "recall", "f1")


@dataclass(frozen=True)
class FewShot:
    """Figures of the known queries; precision, recall and F1 are macro-averages over an episode's words.

    `calibration_error` is that of the probabilities among the words. `open_set` describes the rejection of unknown
    queries; None without any.
    """

    accuracy: Interval
    precision: Interval
    recall: Interval
    f1: Interval
    calibration_error: Interval
    episodes: int
    open_set: OpenSet | None = None

    def as_dict(self) -> dict[str, object]:
        other_measures = {
            key: value
            for name in MEASURES[1:]
            for key, value in (
                (name, getattr(self, name).mean),
                (f"{name}_ci95", round(getattr(self, name).ci95, 6)),
            )
        }
        return {
            "accuracy": self.accuracy.as_dict(),
            **other_measures,
            "expected_calibration_error": self.calibration_error.as_dict(),
            "episodes": self.episodes,
            **(self.open_set.as_dict() if self.open_set else {}),
        }


def figures(trials: Trials, seed: int = 0) -> FewShot:
    """Figures of the trials. Where all episodes agree, the interval counts the distinct recordings used as queries."""
    known = trials.where(trials.known)
    recordings = len(np.unique(known.row))
    starts = np.searchsorted(known.episode, np.arange(1, len(trials.words)))
    way = trials.words.shape[1]
    by_episode = [
        classification(truth, guess, way)
        for truth, guess in zip(np.split(known.truth, starts), np.split(known.guess, starts), strict=True)
    ]
    accuracy, precision, recall, f1 = (
        mean_interval([getattr(measured, name) for measured in by_episode], recordings) for name in MEASURES
    )
    return FewShot(
        accuracy,
        precision,
        recall,
        f1,
        calibration_error(trials, seed),
        len(by_episode),
        open_set(trials, seed=seed),
    )


def score_episodes(
    episodes: list[Episode], embeddings: Callable[[np.ndarray], torch.Tensor], method: Method
) -> FewShot:
    """`embeddings(rows)` gives (rows, views, embedding); only the first view of a query counts."""
    return figures(run_trials(episodes, embeddings, method))
