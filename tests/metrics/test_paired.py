"""The relative error reduction of one arm against another."""

import numpy as np
import pytest

from metavox.metrics.paired import relative_error_reduction


def test_half_the_errors_on_every_episode_is_half_with_certainty() -> None:
    random = np.random.default_rng(0)
    baseline = [1 - random.uniform(0.1, 0.6, 50) for _ in range(3)]
    arm = [1 - (1 - one) / 2 for one in baseline]
    found = relative_error_reduction(arm, baseline)
    assert found.mean == pytest.approx(0.5)
    assert found.ci95 == pytest.approx(0, abs=1e-9)


def test_pairing_narrows_the_interval() -> None:
    random = np.random.default_rng(1)
    baseline = [1 - random.uniform(0.0, 0.9, 200) for _ in range(3)]
    arm = [1 - 0.8 * (1 - one) + random.normal(0, 0.01, 200) for one in baseline]
    paired = relative_error_reduction(arm, baseline)
    shuffled = relative_error_reduction([random.permutation(one) for one in arm], baseline)
    assert paired.mean == pytest.approx(shuffled.mean)
    assert paired.mean == pytest.approx(0.2, abs=0.02)
    assert paired.ci95 < shuffled.ci95 / 3


def test_seeds_that_disagree_widen_the_interval() -> None:
    baseline = [np.full(100, 0.5)] * 3
    agree = relative_error_reduction([np.full(100, 0.6)] * 3, baseline)
    apart = relative_error_reduction([np.full(100, value) for value in (0.4, 0.6, 0.8)], baseline)
    assert agree.mean == pytest.approx(apart.mean)
    assert agree.ci95 == 0
    assert apart.ci95 > 0.1


def test_without_errors_there_is_no_reduction() -> None:
    assert relative_error_reduction([np.ones(5)], [np.ones(5)]).mean == 0


def test_different_episodes_are_refused() -> None:
    with pytest.raises(ValueError, match="episodes by seed"):
        relative_error_reduction([np.ones(5)], [np.ones(6)])
