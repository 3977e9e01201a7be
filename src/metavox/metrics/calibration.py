"""Whether a confidence is what it says: of guesses made with 80%, eight in ten should be right."""

import numpy as np

from metavox.enrolment.open_set import BINS, Reliability
from metavox.intervals import Interval, bootstrap_interval
from metavox.metrics.open_set import RESAMPLES
from metavox.metrics.trials import Trials


def calibration_error(trials: Trials, seed: int = 0) -> Interval:
    """Expected calibration error (Guo et al. 2017, section 2) of the known queries among their episode's words.

    Bootstrap over episodes, whose draws lean upwards a little.
    """
    known = trials.where(trials.known)
    sums = _sums(known, len(trials.words))
    random = np.random.default_rng(seed)
    count = len(trials.words)
    picks = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    drawn = [_error(*(pick @ part for part in sums)) for pick in picks]
    return bootstrap_interval(_error(*sums.sum(axis=1)), drawn, len(np.unique(known.row)))


def _sums(known: Trials, episodes: int) -> np.ndarray:
    """(3, episodes, bins): guesses, their confidences, how many were right."""
    place = known.episode * BINS + np.minimum((known.confidence * BINS).astype(int), BINS - 1)
    parts = (np.ones(len(known)), known.confidence, known.right.astype(float))
    return np.array([np.bincount(place, part, episodes * BINS).reshape(episodes, BINS) for part in parts])


def _error(count: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> float:
    some = np.maximum(count, 1)
    return Reliability(confidence / some, right / some, count).expected_error
