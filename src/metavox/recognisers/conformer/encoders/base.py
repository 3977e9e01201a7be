"""What every encoder is: stored features in, acoustic frames for words and context frames for characters out."""

import torch
from torch import nn

from metavox.config import EncoderConfig
from metavox.recognisers.conformer.frontend import FrontEnd


class Encoder(nn.Module):
    """Padding never changes a result: an item gives the same alone and inside a padded batch.

    `acoustic_dim`, `dim`: sizes of the two kinds of frames; `subsampling`: feature frames that become one of them.
    """

    config: EncoderConfig
    frontend: FrontEnd  # of all kinds but bundle, which has its own
    acoustic_dim: int
    dim: int
    subsampling: int = 4

    def acoustic(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (batch, time, width), lengths (batch,) -> (batch, frames, acoustic_dim), their lengths."""
        raise NotImplementedError

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (batch, time, width), lengths (batch,) -> context frames (batch, frames, dim), their lengths."""
        raise NotImplementedError

    def both(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """What `acoustic` gives and what `forward` gives, in one pass where the kind can."""
        return self.acoustic(features, lengths), self(features, lengths)
