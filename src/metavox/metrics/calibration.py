"""Calibration: whether confidence matches accuracy, so that of guesses made with 80% confidence, 80% are right."""

import numpy as np

from metavox.enrolment.open_set import BINS, Reliability
from metavox.intervals import Interval, bootstrap_interval
from metavox.metrics.open_set import RESAMPLES
from metavox.metrics.trials import Trials


def calibration_error(trials: Trials, seed: int = 0) -> Interval:
    """Expected calibration error (Guo et al. 2017, section 2) of the known queries among their episode's words.

    The interval is a bootstrap over episodes, whose draws are biased upwards a little.
    """
    known = trials.where(trials.known)
    sums = _sums(known, len(trials.words))
    random = np.random.default_rng(seed)
    count = len(trials.words)
    picks = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    drawn = [_error(*(pick @ each for each in sums)) for pick in picks]
    return bootstrap_interval(_error(*sums.sum(axis=1)), drawn, len(np.unique(known.row)))


def _sums(known: Trials, episodes: int) -> np.ndarray:
    """Sums per episode and confidence bin, (3, episodes, bins): guesses, confidences, correct guesses."""
    cell = known.episode * BINS + np.minimum((known.confidence * BINS).astype(int), BINS - 1)
    weights = (np.ones(len(known)), known.confidence, known.right.astype(float))
    return np.array([np.bincount(cell, each, episodes * BINS).reshape(episodes, BINS) for each in weights])


def _error(count: np.ndarray, confidence: np.ndarray, right: np.ndarray) -> float:
    total = np.maximum(count, 1)
    return Reliability(confidence / total, right / total, count).expected_error
