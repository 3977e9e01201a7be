"""Open-set figures match their definitions, and scikit-learn where both measure the same."""

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
def test_accuracy_at_a_false_accept_rate_matches_its_definition(seed: int, ties: bool) -> None:
    sample = tied(trials(seed)) if ties else trials(seed)
    curve = Attempts(sample).curve()
    unknown = sample.score[~sample.known]
    for rate in RATES:
        threshold = min(
            (t for t in [*sample.score, np.inf] if (unknown >= t).mean() <= rate + 1e-12), default=np.inf
        )
        accuracy = (sample.right & (sample.score >= threshold)).sum() / sample.known.sum()
        assert curve.right[curve.at(rate)] == pytest.approx(accuracy)


@pytest.mark.parametrize("ties", [False, True])
def test_if_every_guess_is_correct_the_curve_is_the_roc_curve(ties: bool) -> None:
    sample = trials(chance=1.0)
    sample = tied(sample) if ties else sample
    false_accept, true_accept, _ = roc_curve(sample.known, sample.score, drop_intermediate=False)
    curve = Attempts(sample).curve()
    np.testing.assert_allclose(curve.false_accept, false_accept, atol=1e-12)
    np.testing.assert_allclose(curve.right, true_accept, atol=1e-12)
    false_reject = 1 - true_accept
    crossing = np.argmin(np.abs(false_accept - false_reject))
    assert abs(curve.equal_error - (false_accept[crossing] + false_reject[crossing]) / 2) < (
        0.2 if ties else 0.01
    )


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_grows_with_the_false_accept_rate_up_to_closed_set_accuracy(seed: int) -> None:
    sample = trials(seed)
    curve = Attempts(sample).curve()
    accuracies = [curve.right[curve.at(rate)] for rate in np.linspace(0, 1, 101)]
    assert (np.diff(accuracies) >= 0).all()
    assert accuracies[-1] == pytest.approx(sample.right.sum() / sample.known.sum())
    assert (curve.right <= curve.accept + 1e-12).all()


def test_equal_error_of_known_distributions() -> None:
    """For two normal distributions with standard deviation 1 and means 2 apart, the equal error rate is 15.87%."""
    overlapping = trials(episodes=400, unknown=20, lead=2.0)
    assert Attempts(overlapping).curve().equal_error == pytest.approx(0.1587, abs=0.01)
    separate, identical = trials(lead=50.0), trials(lead=0.0, episodes=400)
    assert Attempts(separate).curve().equal_error == 0
    assert Attempts(identical).curve().equal_error == pytest.approx(0.5, abs=0.02)


def test_figures_have_intervals_and_background_is_counted() -> None:
    sample = trials()
    result = open_set(sample, seed=1)
    assert result
    assert result == open_set(sample, seed=1)
    assert result.accuracy[0.01].mean <= result.accuracy[0.05].mean <= 0.8 + 0.05
    assert 0 < result.accuracy[0.05].ci95 < 0.1
    background_scores = sample.score[sample.background]
    accepted = result.background_accepted[0.05]
    assert accepted.mean == pytest.approx((background_scores >= result.threshold[0.05]).mean())
    assert accepted.low <= accepted.mean < accepted.high
    assert set(result.as_dict()["accuracy_at_false_accepts"]) == {"1%", "5%"}  # type: ignore[call-overload]
    assert open_set(sample.where(sample.known)) is None


def test_the_interval_has_its_nominal_coverage() -> None:
    truth = open_set(trials(99, episodes=3000), seed=0)
    assert truth
    covered = 0
    for seed in range(60):
        drawn = open_set(trials(seed, episodes=60))
        assert drawn
        covered += abs(drawn.accuracy[0.05].mean - truth.accuracy[0.05].mean) <= drawn.accuracy[0.05].ci95
    assert covered >= 50


def test_the_interval_is_not_zero_if_every_query_is_correct() -> None:
    """The interval counts the 47 recordings, however many episodes use them."""
    sample = trials(chance=1.0, lead=50.0)
    result = open_set(sample)
    assert result
    episodes = figures(sample)
    intervals = [
        result.accuracy[0.01],
        result.accuracy[0.05],
        result.equal_error,
        episodes.accuracy,
        episodes.recall,
        ratio(sample.right[sample.known], sample.episode[sample.known], sample.row[sample.known]),
    ]
    for interval in intervals:
        assert interval.mean in (0, 1)
        assert interval.high - interval.low == pytest.approx(wilson(47, 47).ci95, abs=1e-6)
        assert "± 0.0" not in str(interval)
