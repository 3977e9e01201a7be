"""Environments as a perturbation: they apply to a share of a batch, and padding is ignored."""

import numpy as np
import pytest
import torch

from metavox.audio.perturb import Perturb
from metavox.training.gan import Environment, Environments, SampleEnvironments
from tests.training.gan.conftest import Speech


def test_a_share_of_the_items_is_changed(generator: Environment, speech: Speech, unchanged: Perturb) -> None:
    mels, lengths = speech(batch=200, time=40), torch.full((200,), 40)
    before = mels.clone()
    out, _ = Environments(generator, 0.3, unchanged)(mels, lengths, torch.Generator().manual_seed(0))
    changed = (out != before).flatten(1).any(dim=1).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.1)
    assert torch.equal(mels, before)
    half = Environments(generator, 0.3, unchanged).scaled(0.5)
    assert half.share == pytest.approx(0.15)


def test_padding_does_not_change_an_environment(
    generator: Environment, speech: Speech, unchanged: Perturb
) -> None:
    """Padding of zero is louder than speech, and the noise floor depends on the loudest frame."""
    lengths = torch.tensor([80, 40, 40, 40, 40, 40])
    inside = (torch.arange(80)[None, :] < lengths[:, None]).unsqueeze(2)
    results = []
    for fill in (0.0, -18.0):
        environments = Environments(generator, 1.0, unchanged)
        out, _ = environments(
            speech().masked_fill(~inside, fill) - 4, lengths, torch.Generator().manual_seed(0)
        )
        results.append(out * inside)
    # The comparison includes the last frames, where a convolution reaches one frame into the padding.
    torch.testing.assert_close(results[0], results[1])


def test_a_share_of_recordings_gets_an_environment_each(generator: Environment) -> None:
    rate = generator.config.features.sample_rate_hz
    samples = np.sin(np.arange(rate) * np.arange(rate) / rate).astype(np.float32)

    def in_environment(seed: int, share: float = 1.0) -> np.ndarray:
        return SampleEnvironments(generator, share)(samples, np.random.default_rng(seed))

    assert in_environment(0, share=0.0) is samples
    assert np.array_equal(in_environment(0), in_environment(0))
    assert not np.allclose(in_environment(0), in_environment(1))
    assert abs(len(in_environment(0)) - rate) < 0.02 * rate
    assert in_environment(0).dtype == np.float32
    changed = sum(in_environment(seed, share=0.3) is not samples for seed in range(100))
    assert changed == pytest.approx(30, abs=12)
