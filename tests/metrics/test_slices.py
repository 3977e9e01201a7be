"""Slices match figures computed by hand, share one threshold, and are marked when they are too small."""

import numpy as np
import pytest
from sample_trials import trials

from metavox.metrics.open_set import open_set
from metavox.metrics.slices import MIN_RECORDINGS, UNNAMED, ratio, slices


def test_each_slice_is_measured_on_its_own_queries_with_the_overall_threshold() -> None:
    sample = trials()
    values = np.array(["anna"] * 25 + ["bert"] * 17 + [""] * 5)
    overall = open_set(sample)
    assert overall
    result = {item.value: item for item in slices(sample, values, overall)}
    assert list(result) == ["anna", "bert", UNNAMED]
    assert result[UNNAMED].too_small
    assert result[UNNAMED].recordings == 5 < MIN_RECORDINGS
    assert result[UNNAMED].as_dict()["too_small"] is True
    anna = sample.where(values[sample.row] == "anna")
    known, unknown = anna.where(anna.known), anna.where(~anna.known)
    assert result["anna"].accuracy
    assert result["anna"].accuracy.mean == pytest.approx(known.right.mean())
    threshold = overall.threshold[0.05]
    assert result["anna"].right[0.05].mean == pytest.approx((known.right & (known.score >= threshold)).mean())
    assert result["anna"].false_accept[0.05].mean == pytest.approx((unknown.score >= threshold).mean())
    assert set(result["anna"].as_dict()["accuracy_at_false_accepts"]) == {"1%", "5%"}  # type: ignore[call-overload]


def test_a_single_slice_has_the_overall_figures() -> None:
    sample = trials(unknown=0)
    (only,) = slices(sample, np.full(47, "all"), None)
    assert only.accuracy
    assert only.accuracy.mean == pytest.approx(sample.right.mean())
    assert only.right == only.false_accept == {}


def test_correlation_within_episodes_widens_the_interval_of_a_ratio() -> None:
    """Queries that are correct or wrong together with the others of their episode carry less information."""
    random = np.random.default_rng(0)
    episode = np.arange(50).repeat(10)
    independent = ratio(random.random(500) < 0.7, episode, np.arange(500))
    correlated = ratio((random.random(50) < 0.7).repeat(10), episode, np.arange(500))
    assert independent.mean == pytest.approx(0.7, abs=0.06)
    assert correlated.ci95 > 2 * independent.ci95
