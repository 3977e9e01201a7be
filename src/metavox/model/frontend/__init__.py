"""The front end: features as they are stored, to streams of time and frequency that an encoder sees as channels."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from metavox.audio.features import FeatureConfig
from metavox.model.frames import frame_mask
from metavox.model.frontend.normalise import Normalise


@dataclass(frozen=True)
class FrontEndConfig:
    """Which streams there are, and what is done to them."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class FrontEnd(nn.Module):
    """Stored features (batch, time, width) to streams (batch, channels, time, bands); zero behind an item's end."""

    def __init__(self, config: FrontEndConfig, features: FeatureConfig):
        super().__init__()
        self.config = config
        self.channels, self.bands = 1, features.mels
        self.normalise = Normalise(features.mels)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.normalise(features, frame_mask(lengths, features.shape[1])).unsqueeze(1)
