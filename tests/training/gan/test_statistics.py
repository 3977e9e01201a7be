"""Statistics of recordings: distances respond to the channel, and the content loss to the words."""

import pytest
import torch

from metavox.training.gan.statistics import content_loss, distances, frechet, levels, statistics
from tests.training.gan.conftest import Speech


def test_the_content_loss_ignores_the_channel_and_detects_other_words(speech: Speech) -> None:
    clean = speech()
    curve = torch.linspace(-6, 6, 32)
    assert float(content_loss(clean, clean)) == pytest.approx(0, abs=1e-5)
    assert float(content_loss(clean, clean + curve)) == pytest.approx(0, abs=1e-5)
    assert float(content_loss(clean, clean + 5.0)) == pytest.approx(0, abs=1e-5)
    assert float(content_loss(clean, speech(seed=1))) > 0.5
    assert float(content_loss(clean, clean.roll(20, dims=1))) > 0.5


def test_levels_are_quantiles_with_gradients(speech: Speech) -> None:
    mels = speech().requires_grad_(True)
    expected = torch.quantile(mels, torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]), dim=1).transpose(0, 1)
    torch.testing.assert_close(levels(mels), expected)
    statistics(mels).sum().backward()
    assert mels.grad is not None
    assert mels.grad.abs().sum() > 0


def test_the_frechet_distance_of_two_normal_distributions_matches_the_formula() -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.randn(20_000, 3, generator=random)
    second = 2 * torch.randn(20_000, 3, generator=random) + torch.tensor([1.0, 0, 2])
    assert frechet(first, second) == pytest.approx(5 + 3, rel=0.05)  # |mean|^2 + sum (2 - 1)^2


def test_distances_are_zero_for_equal_recordings_and_respond_to_their_own_change(speech: Speech) -> None:
    clips = speech(batch=200)
    assert all(value == pytest.approx(0, abs=1e-6) for value in distances(clips, clips).values())
    curve = torch.linspace(0, 3, 32)
    near, far = distances(clips + 0.3 * curve, clips), distances(clips + curve, clips)
    assert 0 < near["spectrum"] < far["spectrum"]
    assert far["movement"] == pytest.approx(0, abs=1e-3)
    quiet, loud = (distances(torch.logaddexp(clips, torch.tensor(x)), clips) for x in (-14.0, -9.0))
    assert 0 < quiet["floor"] < loud["floor"]
    assert 0 < quiet["movement"] < loud["movement"]
