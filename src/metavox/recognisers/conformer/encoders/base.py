"""The interface of encoders: stored features in, acoustic frames for words and context frames for characters
out.
"""

import torch
from torch import nn

from metavox.config import EncoderConfig
from metavox.recognisers.conformer.frontend import FrontEnd


class Encoder(nn.Module):
    """Base class of encoders. Padding never changes a result: an item gives the same alone and in a padded
    batch.

    `acoustic_dim` and `dim` are the sizes of acoustic and context frames; one of them covers `subsampling`
    feature frames.
    """

    config: EncoderConfig
    frontend: FrontEnd  # all kinds but `bundle`, which has its own
    acoustic_dim: int
    dim: int
    subsampling: int = 4

    def share_base(self, other: "Encoder") -> None:
        """Use the frozen base model of another encoder of the same configuration, if the kind has one."""

    def acoustic(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (batch, time, width), lengths (batch,) -> acoustic frames (batch, frames, acoustic_dim),
        their lengths.
        """
        raise NotImplementedError

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (batch, time, width), lengths (batch,) -> context frames (batch, frames, dim), their lengths."""
        raise NotImplementedError

    def both(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """The results of `acoustic` and `forward`, in one pass if the kind can."""
        return self.acoustic(features, lengths), self(features, lengths)
