"""Synthetic syllables, clean and at two sites."""

from collections.abc import Callable

import pytest
import torch

from metavox.config import FeatureConfig
from metavox.training.gan import Environment, GeneratorConfig

MELS = 32
CONFIG = GeneratorConfig(FeatureConfig(mels=MELS), latent=4, hidden=16)
Speech = Callable[..., torch.Tensor]


@pytest.fixture
def generator() -> Environment:
    torch.manual_seed(0)
    return Environment(CONFIG).eval()


@pytest.fixture
def speech() -> Speech:
    """Makes log-mels (batch, time, mel) of random loud segments over a noise floor, with pauses."""

    def make(seed: int = 0, batch: int = 6, time: int = 80) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed)
        level = torch.rand(batch, time // 8, MELS, generator=random).repeat_interleave(8, dim=1)
        mels = 10 * level - 14 + torch.randn(batch, time, MELS, generator=random) * 0.2
        mels[:, ::16] = -16
        return mels

    return make


@pytest.fixture
def sites(speech: Speech) -> Speech:
    """Makes speech at two sites: a telephone line up to band 20, and a room with noise."""

    def make(seed: int = 0, batch: int = 6, time: int = 80) -> torch.Tensor:
        mels = speech(seed, batch, time)
        random = torch.Generator().manual_seed(seed)
        line = mels - 20.0 * (torch.arange(MELS) > 20)
        room = torch.logaddexp(mels + 2.0, -9 + torch.randn(mels.shape, generator=random) * 0.3)
        is_line = torch.rand(batch, 1, 1, generator=random) < 0.5
        return torch.where(is_line, line, room).clamp_min(-18.4)

    return make
