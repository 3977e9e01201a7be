"""The CNN baseline: one 3x3 convolution with 32 channels, pooling, and two linear layers per frame."""

import torch
from torch import nn
from torch.nn import functional as F

from metavox.config import EncoderConfig
from metavox.recognisers.conformer.encoders.base import Encoder
from metavox.recognisers.conformer.frames import frame_mask
from metavox.recognisers.conformer.frontend import FrontEnd

CHANNELS = 32
POOL = 4  # frames, and bands


class CnnEncoder(Encoder):
    """Acoustic frames are the first linear layer's, context frames the second's. Of the configuration, only
    `dim` is used.
    """

    def __init__(self, config: EncoderConfig, frontend: FrontEnd):
        super().__init__()
        self.config, self.frontend = config, frontend
        self.acoustic_dim = self.dim = config.dim
        self.convolve = nn.Conv2d(frontend.channels, CHANNELS, 3, padding=1)
        self.first = nn.Linear(CHANNELS * (frontend.bands // POOL), config.dim)
        self.second = nn.Linear(config.dim, config.dim)

    def acoustic(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu(self.convolve(self.frontend(features, lengths)))
        # Pooled with zeros, as at an end without padding.
        x = x * frame_mask(lengths, x.shape[2])[:, None, :, None]
        x = F.max_pool2d(x, POOL, ceil_mode=True)[..., : self.frontend.bands // POOL]
        lengths = (lengths + POOL - 1) // POOL
        x = F.relu(self.first(x.transpose(1, 2).flatten(2)))
        return x * frame_mask(lengths, x.shape[1]).unsqueeze(2), lengths

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, lengths = self.acoustic(features, lengths)
        return self.second(x) * frame_mask(lengths, x.shape[1]).unsqueeze(2), lengths
