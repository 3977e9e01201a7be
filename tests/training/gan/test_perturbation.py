"""Environments as a perturbation: a share of a batch is moved, and padding is ignored."""

import numpy as np
import pytest
import torch

from metavox.audio.perturb import Perturb
from metavox.training.gan import Environment, Environments, SampleEnvironments
from tests.training.gan.conftest import Speech


def test_a_share_of_the_items_is_moved_and_the_rest_unchanged(
    generator: Environment, speech: Speech, unchanged: Perturb
) -> None:
    mels, lengths = speech(batch=200, time=40), torch.full((200,), 40)
    before = mels.clone()
    out, _ = Environments(generator, 0.3, unchanged)(mels, lengths, torch.Generator().manual_seed(0))
    moved = (out != before).flatten(1).any(dim=1).float().mean()
    assert float(moved) == pytest.approx(0.3, abs=0.1)
    assert torch.equal(mels, before)
    half = Environments(generator, 0.3, unchanged).scaled(0.5)
    assert half.share == pytest.approx(0.15)


def test_padding_does_not_change_an_environment(
    generator: Environment, speech: Speech, unchanged: Perturb
) -> None:
    """Zero is louder than speech, and the noise floor follows the loudest frame."""
    lengths = torch.tensor([80, 40, 40, 40, 40, 40])
    inside = (torch.arange(80)[None, :] < lengths[:, None]).unsqueeze(2)
    outs = []
    for fill in (0.0, -18.0):
        moved = Environments(generator, 1.0, unchanged)
        out, _ = moved(speech().masked_fill(~inside, fill) - 4, lengths, torch.Generator().manual_seed(0))
        outs.append(out * inside)
    # The detail convolution looks one frame ahead and one back.
    torch.testing.assert_close(outs[0], outs[1])


def test_a_share_of_recordings_is_moved_each_into_its_own_environment(generator: Environment) -> None:
    rate = generator.config.features.sample_rate_hz
    samples = np.sin(np.arange(rate) * np.arange(rate) / rate).astype(np.float32)

    def moved(seed: int, share: float = 1.0) -> np.ndarray:
        return SampleEnvironments(generator, share)(samples, np.random.default_rng(seed))

    assert moved(0, share=0.0) is samples
    assert np.array_equal(moved(0), moved(0))
    assert not np.allclose(moved(0), moved(1))
    assert abs(len(moved(0)) - rate) < 0.02 * rate
    assert moved(0).dtype == np.float32
    few = sum(moved(seed, share=0.3) is not samples for seed in range(100))
    assert few == pytest.approx(30, abs=12)
