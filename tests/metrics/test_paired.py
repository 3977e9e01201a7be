"""The relative error reduction of one arm against another."""

import numpy as np
import pytest

from metavox.metrics.paired import relative_error_reduction


def test_halving_the_errors_of_every_episode_is_a_reduction_of_half_with_no_interval() -> None:
    random = np.random.default_rng(0)
    baseline = [1 - random.uniform(0.1, 0.6, 50) for _ in range(3)]
    arm = [1 - (1 - accuracies) / 2 for accuracies in baseline]
    reduction = relative_error_reduction(arm, baseline)
    assert reduction.mean == pytest.approx(0.5)
    assert reduction.ci95 == pytest.approx(0, abs=1e-9)


def test_pairing_narrows_the_interval() -> None:
    random = np.random.default_rng(1)
    baseline = [1 - random.uniform(0.0, 0.9, 200) for _ in range(3)]
    arm = [1 - 0.8 * (1 - accuracies) + random.normal(0, 0.01, 200) for accuracies in baseline]
    paired = relative_error_reduction(arm, baseline)
    shuffled = relative_error_reduction([random.permutation(accuracies) for accuracies in arm], baseline)
    assert paired.mean == pytest.approx(shuffled.mean)
    assert paired.mean == pytest.approx(0.2, abs=0.02)
    assert paired.ci95 < shuffled.ci95 / 3


def test_seeds_that_disagree_widen_the_interval() -> None:
    baseline = [np.full(100, 0.5)] * 3
    agree = relative_error_reduction([np.full(100, 0.6)] * 3, baseline)
    disagree = relative_error_reduction([np.full(100, value) for value in (0.4, 0.6, 0.8)], baseline)
    assert agree.mean == pytest.approx(disagree.mean)
    assert agree.ci95 == 0
    assert disagree.ci95 > 0.1


def test_without_errors_there_is_no_reduction() -> None:
    assert relative_error_reduction([np.ones(5)], [np.ones(5)]).mean == 0


def test_different_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="episodes by seed"):
        relative_error_reduction([np.ones(5)], [np.ones(6)])
