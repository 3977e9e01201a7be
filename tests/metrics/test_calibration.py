"""Calibration error against a second implementation, and its interval."""

import numpy as np
import pytest
from sample_trials import trials

from metavox.enrolment.open_set import BINS, reliability
from metavox.metrics.calibration import calibration_error


def reference_error(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    total = 0.0
    for low in range(bins):
        inside = [
            (c, r)
            for c, r in zip(confidence, right, strict=True)
            if low / bins <= c < (low + 1) / bins or (low == bins - 1 and c == 1)
        ]
        if inside:
            gap = np.mean([r for _, r in inside]) - np.mean([c for c, _ in inside])
            total += len(inside) / len(right) * abs(gap)
    return total


def test_calibration_is_measured_on_known_queries_with_an_interval_over_episodes() -> None:
    all_trials = trials(unknown=10)
    known = all_trials.where(all_trials.known)
    result = calibration_error(all_trials)
    assert result.mean == pytest.approx(reference_error(known.confidence, known.right, BINS))
    assert result == calibration_error(known)
    assert result.mean == pytest.approx(reliability(known.confidence, known.right).expected_error)
    wide, narrow = (calibration_error(trials(episodes=n)).ci95 for n in (20, 200))
    assert wide > narrow > 0
