"""What every encoder is: stored features in, acoustic frames for words and context frames for characters out."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from metavox.recognisers.conformer.frontend import FrontEnd

Kind = Literal["conformer", "cnn", "recurrent", "bundle"]


@dataclass(frozen=True)
class EncoderConfig:
    """Dimensions; which of them a kind uses, its module says."""

    mels: int = 64
    channels: int = 24
    dim: int = 144
    layers: int = 2
    heads: int = 4
    kernel: int = 15
    dropout: float = 0.0
    kind: Kind = "conformer"
    bundle: str = ""  # a name in torchaudio.pipelines
    overrides: dict[str, Any] = field(default_factory=dict)  # of the bundle's parameters

    def __post_init__(self) -> None:
        if self.mels % 16:
            raise ValueError(
                f"{self.mels} mel bands; the convolutions halve them four times: use a multiple of 16"
            )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
