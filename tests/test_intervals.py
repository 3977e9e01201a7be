"""Intervals against scipy and simulation, including values without spread."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from metavox.intervals import (
    Interval,
    bootstrap_interval,
    error_rate,
    mean_interval,
    share_gone,
    wilson,
)


@pytest.mark.parametrize(("right", "trials"), [(0, 1), (0, 6), (6, 6), (1, 6), (37, 100), (999, 1000)])
def test_wilson_matches_scipy(right: int, trials: int) -> None:
    found, reference = (
        wilson(right, trials),
        binomtest(right, trials).proportion_ci(0.95, method="wilson"),
    )
    assert found.mean == right / trials
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-4)
    assert found.ci95 == pytest.approx(max(found.mean - found.low, found.high - found.mean))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_wilson_covers_a_proportion_of_few_trials(share: float) -> None:
    hits = np.random.default_rng(0).binomial(12, share, 4000)
    covered = np.mean([(found := wilson(int(hit), 12)).low <= share <= found.high for hit in hits])
    assert covered > 0.92


def test_more_errors_than_words_have_the_exact_poisson_interval() -> None:
    # Garwood 1936: 10 events, 4.795 to 18.39.
    found = error_rate(10, 8)
    assert (8 * found.low, 8 * found.high) == pytest.approx((4.795, 18.39), rel=1e-3)
    assert error_rate(3, 8) == wilson(3, 8)
    assert math.isnan(error_rate(2, 0).mean)


def test_the_relative_error_reduction_has_an_interval() -> None:
    reduction = share_gone(6, 0)
    assert reduction.mean == reduction.high == 1
    assert 0 < reduction.low < 1
    worse = share_gone(4, 9)
    assert worse.low < worse.mean == 1 - 9 / 4 < 0
    assert share_gone(40, 40).low < 0 < share_gone(40, 40).high
    assert math.isnan(share_gone(0, 3).mean)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_equal_values_have_an_interval_of_positive_width(value: float) -> None:
    for found in (
        mean_interval([value] * 600, 20),
        mean_interval([value]),
        bootstrap_interval(value, [value] * 50, 20),
    ):
        assert found.ci95 > 0.03
        assert 0 <= found.low <= value <= found.high <= 1
        assert "± 0.0" not in str(found)
    assert mean_interval([value] * 600, 20) == wilson(20 * value, 20)


def test_other_values_have_no_interval_rather_than_a_wrong_one() -> None:
    assert str(mean_interval([3.5, 3.5])) == "350.0"
    assert str(bootstrap_interval(-0.5, [-0.5] * 9, 9)) == "-50.0"


def test_intervals_are_formatted_and_survive_json() -> None:
    for found, text in (
        (Interval(0.62, 0.031), "62.0 ± 3.1%"),
        (wilson(6, 6), "100.0% (61.0 to 100.0%)"),
        (wilson(0, 6), "0.0% (0.0 to 39.0%)"),
        (wilson(300, 500), "60.0 ± 4.4%"),
        (wilson(0, 0), "–"),
    ):
        assert found.percent() == text
        assert str(Interval.of(found.as_dict())) == str(found)
    assert str(Interval.of({"mean": 0.5, "ci95": 0.1})) == "50.0 ± 10.0"
