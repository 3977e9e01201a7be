"""Slices have the same counts as a table by hand, share one threshold, and say when they are too small."""

import numpy as np
import pytest
from sample_trials import trials

from metavox.metrics.open_set import open_set
from metavox.metrics.slices import MIN_RECORDINGS, UNNAMED, ratio, slices


def test_slices_are_shares_of_their_own_queries_under_one_threshold() -> None:
    found = trials()
    values = np.array(["anna"] * 25 + ["bert"] * 17 + [""] * 5)
    overall = open_set(found)
    assert overall
    result = {one.value: one for one in slices(found, values, overall)}
    assert list(result) == ["anna", "bert", UNNAMED]
    assert result[UNNAMED].too_small
    assert result[UNNAMED].recordings == 5 < MIN_RECORDINGS
    assert result[UNNAMED].as_dict()["too_small"] is True
    of_anna = found.where(values[found.row] == "anna")
    known, unknown = of_anna.where(of_anna.known), of_anna.where(~of_anna.known)
    assert result["anna"].accuracy
    assert result["anna"].accuracy.mean == pytest.approx(known.right.mean())
    limit = overall.threshold[0.05]
    assert result["anna"].right[0.05].mean == pytest.approx((known.right & (known.score >= limit)).mean())
    assert result["anna"].false_accept[0.05].mean == pytest.approx((unknown.score >= limit).mean())
    assert set(result["anna"].as_dict()["accuracy_at_false_accepts"]) == {"1%", "5%"}  # type: ignore[call-overload]


def test_one_slice_of_everything_is_everything() -> None:
    found = trials(unknown=0)
    (only,) = slices(found, np.full(47, "all"), None)
    assert only.accuracy
    assert only.accuracy.mean == pytest.approx(found.right.mean())
    assert only.right == only.false_accept == {}


def test_the_interval_of_a_ratio_grows_with_what_an_episode_shares() -> None:
    """Queries of one episode that are right or wrong together carry less information."""
    random = np.random.default_rng(0)
    episode = np.arange(50).repeat(10)
    apart = ratio(random.random(500) < 0.7, episode, np.arange(500))
    together = ratio((random.random(50) < 0.7).repeat(10), episode, np.arange(500))
    assert apart.mean == pytest.approx(0.7, abs=0.06)
    assert together.ci95 > 2 * apart.ci95
