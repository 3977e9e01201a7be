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
    """Loud stretches of random bands over a floor, with pauses: (batch, time, mel)."""

    def make(seed: int = 0, batch: int = 6, time: int = 80) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed)
        loud = torch.rand(batch, time // 8, MELS, generator=random).repeat_interleave(8, dim=1)
        spoken = 10 * loud - 14 + torch.randn(batch, time, MELS, generator=random) * 0.2
        spoken[:, ::16] = -16
        return spoken

    return make


@pytest.fixture
def sites(speech: Speech) -> Speech:
    """Speech of two sites: a line that ends at band 20, and a room with a noise."""

    def make(seed: int = 0, batch: int = 6, time: int = 80) -> torch.Tensor:
        heard = speech(seed, batch, time)
        random = torch.Generator().manual_seed(seed)
        line = heard - 20.0 * (torch.arange(MELS) > 20)
        room = torch.logaddexp(heard + 2.0, -9 + torch.randn(heard.shape, generator=random) * 0.3)
        either = torch.rand(batch, 1, 1, generator=random) < 0.5
        return torch.where(either, line, room).clamp_min(-18.4)

    return make
