"""Rejection figures against their definition, and against scikit-learn where the two coincide."""

import numpy as np
import pytest
from sample_trials import trials
from sklearn.metrics import roc_curve

from metavox.intervals import wilson
from metavox.metrics.episodes import figures
from metavox.metrics.open_set import Attempts, open_set
from metavox.metrics.slices import ratio
from metavox.metrics.trials import Trials

RATES = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0)


def tied(source: Trials) -> Trials:
    """The same trials with few distinct scores."""
    return Trials(**{**vars(source), "score": np.round(source.score)})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
def test_accuracy_at_a_rate_is_its_definition(seed: int, ties: bool) -> None:
    found = tied(trials(seed)) if ties else trials(seed)
    curve = Attempts(found).curve()
    unknown = found.score[~found.known]
    for rate in RATES:
        least = min(
            (t for t in [*found.score, np.inf] if (unknown >= t).mean() <= rate + 1e-12), default=np.inf
        )
        right = (found.right & (found.score >= least)).sum() / found.known.sum()
        assert curve.right[curve.at(rate)] == pytest.approx(right)


@pytest.mark.parametrize("ties", [False, True])
def test_where_every_guess_is_right_it_is_the_roc_curve(ties: bool) -> None:
    found = trials(chance=1.0)
    found = tied(found) if ties else found
    false, true, _ = roc_curve(found.known, found.score, drop_intermediate=False)
    curve = Attempts(found).curve()
    np.testing.assert_allclose(curve.false_accept, false, atol=1e-12)
    np.testing.assert_allclose(curve.right, true, atol=1e-12)
    missed = 1 - true
    at = np.argmin(np.abs(false - missed))
    assert abs(curve.equal_error - (false[at] + missed[at]) / 2) < (0.2 if ties else 0.01)


@pytest.mark.parametrize("seed", range(3))
def test_more_false_accepts_never_cost_accuracy_and_all_of_them_are_the_closed_set(seed: int) -> None:
    found = trials(seed)
    curve = Attempts(found).curve()
    at = [curve.right[curve.at(rate)] for rate in np.linspace(0, 1, 101)]
    assert (np.diff(at) >= 0).all()
    assert at[-1] == pytest.approx(found.right.sum() / found.known.sum())
    assert (curve.right <= curve.accept + 1e-12).all()


def test_equal_error_of_known_distributions() -> None:
    """Two normal distributions of deviation 1, 2 apart, cross where 15.87% are on the wrong side."""
    many = trials(episodes=400, unknown=20, lead=2.0)
    assert Attempts(many).curve().equal_error == pytest.approx(0.1587, abs=0.01)
    apart, same = trials(lead=50.0), trials(lead=0.0, episodes=400)
    assert Attempts(apart).curve().equal_error == 0
    assert Attempts(same).curve().equal_error == pytest.approx(0.5, abs=0.02)


def test_figures_with_intervals_and_what_background_does() -> None:
    found = trials()
    result = open_set(found, seed=1)
    assert result
    assert result == open_set(found, seed=1)
    assert result.accuracy[0.01].mean <= result.accuracy[0.05].mean <= 0.8 + 0.05
    assert 0 < result.accuracy[0.05].ci95 < 0.1
    silent = found.score[found.background]
    accepted = result.background_accepted[0.05]
    assert accepted.mean == pytest.approx((silent >= result.threshold[0.05]).mean())
    assert accepted.low <= accepted.mean < accepted.high
    assert set(result.as_dict()["accuracy_at_false_accepts"]) == {"1%", "5%"}  # type: ignore[call-overload]
    assert open_set(found.where(found.known)) is None


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    truth = open_set(trials(99, episodes=3000), seed=0)
    assert truth
    covered = 0
    for seed in range(60):
        drawn = open_set(trials(seed, episodes=60))
        assert drawn
        covered += abs(drawn.accuracy[0.05].mean - truth.accuracy[0.05].mean) <= drawn.accuracy[0.05].ci95
    assert covered >= 50


def test_queries_that_all_go_right_leave_room_for_doubt() -> None:
    """The interval counts the 47 recordings, however many episodes use them."""
    found = trials(chance=1.0, lead=50.0)
    result = open_set(found)
    assert result
    episodes = figures(found)
    shown = [
        result.accuracy[0.01],
        result.accuracy[0.05],
        result.equal_error,
        episodes.accuracy,
        episodes.recall,
        ratio(found.right[found.known], found.episode[found.known], found.row[found.known]),
    ]
    for one in shown:
        assert one.mean in (0, 1)
        assert one.high - one.low == pytest.approx(wilson(47, 47).ci95, abs=1e-6)
        assert "± 0.0" not in str(one)
