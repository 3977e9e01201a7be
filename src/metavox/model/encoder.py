"""Convolution + Conformer encoder in which padding never changes a result.

In use, no normalisation looks beyond one frame, and frames past an item's length are set to zero before
each convolution, so an item gives the same output alone and inside a padded batch.
Conformer: Gulati et al. 2020, section 2, without positional encoding: the convolutions carry the order.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

SUBSAMPLING = 4


@dataclass(frozen=True)
class EncoderConfig:
    mels: int = 64
    channels: int = 24
    dim: int = 144
    layers: int = 2
    heads: int = 4
    kernel: int = 15
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.mels % 16:
            raise ValueError(
                f"{self.mels} mel bands; the convolutions halve them four times: use a multiple of 16"
            )

    @property
    def acoustic_dim(self) -> int:
        return self.channels * self.mels // 4

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def frame_mask(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """(batch,) lengths to (batch, frames) bool, true inside the item."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


def halve(lengths: torch.Tensor) -> torch.Tensor:
    """Lengths after one convolution of kernel 3, stride 2, padding 1."""
    return (lengths + 1) // 2


class Normalise(nn.Module):
    """Take an utterance's mean out of each mel band, then scale and shift by learned weights.

    The mean removes a fixed channel. Frames count by their loudness, so that the share of silence
    around a word does not move the result.
    """

    def __init__(self, mels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((mels,), 0.4))
        self.shift = nn.Parameter(torch.zeros(mels))

    def forward(self, mels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, time, mel) log-mel, mask (batch, time) -> (batch, time, mel)."""
        loudness = mels.mean(dim=2).masked_fill(~mask, -torch.inf)
        weight = (loudness / 2.0).softmax(dim=1).unsqueeze(2)
        mean = (weight * mels.masked_fill(~mask.unsqueeze(2), 0.0)).sum(dim=1, keepdim=True)
        # Far under the speech there is only the recorder's floor: nothing there tells words apart.
        return ((mels - mean).clamp(-8.0, 8.0) * self.scale + self.shift) * mask.unsqueeze(2)


class Convolution(nn.Module):
    """3x3 convolution with batch normalisation, and a shortcut where shapes allow."""

    def __init__(self, into: int, out: int, stride: tuple[int, int] = (1, 1)):
        super().__init__()
        self.shortcut = into == out and stride == (1, 1)
        self.halves = stride[0] == 2  # the frames, not only the bands
        self.convolve = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.convolve(x))
        return F.relu(x + y if self.shortcut else y)


class Stem(nn.Module):
    """Convolutions over time and bands: a quarter of the frames, a sixteenth of the bands, four times the channels.

    Batch normalisation made this learn words several times faster than layer normalisation did, and dense
    convolutions more for their time on a CPU than separable ones. The running statistics move in joint training
    only; meta-learning and adaptation leave them as they are.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        c = config.channels
        self.blocks = nn.Sequential(
            Convolution(1, c, (2, 2)), Convolution(c, 2 * c, (2, 2)), Convolution(2 * c, 2 * c),
            Convolution(2 * c, 3 * c, (1, 2)), Convolution(3 * c, 3 * c),
            Convolution(3 * c, 4 * c, (1, 2)), Convolution(4 * c, 4 * c),
        )  # fmt: skip

    def forward(self, mels: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, time, mel) -> acoustic frames (batch, time/4, channels * mel/4), lengths/4."""
        x = mels.unsqueeze(1)
        for block in self.blocks:
            x = block(x)
            lengths = halve(lengths) if block.halves else lengths
            x = x * frame_mask(lengths, x.shape[2])[:, None, :, None]
        return x.transpose(1, 2).flatten(2), lengths


class FeedForward(nn.Sequential):
    def __init__(self, dim: int, dropout: float):
        super().__init__(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.SiLU(), nn.Dropout(dropout),
            nn.Linear(4 * dim, dim), nn.Dropout(dropout),
        )  # fmt: skip


class ConformerBlock(nn.Module):
    def __init__(self, config: EncoderConfig):
        super().__init__()
        dim = config.dim
        self.heads, self.dropout = config.heads, config.dropout
        self.feed_in = FeedForward(dim, config.dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.conv_norm = nn.LayerNorm(dim)
        self.conv_in = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, config.kernel, padding=config.kernel // 2, groups=dim)
        self.depthwise_norm = nn.LayerNorm(dim)
        self.conv_out = nn.Linear(dim, dim)
        self.feed_out = FeedForward(dim, config.dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, frames, dim), mask (batch, frames) -> (batch, frames, dim)."""
        x = x + 0.5 * self.feed_in(x)
        x = x + self._drop(self._attend(self.attention_norm(x), mask))
        x = x + self._drop(self._convolve(self.conv_norm(x), mask))
        x = x + 0.5 * self.feed_out(x)
        return self.norm(x)

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.dropout, self.training)

    def _attend(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, frames, dim = x.shape
        q, k, v = self.qkv(x).view(batch, frames, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return self.attention_out(y.transpose(1, 2).reshape(batch, frames, dim))

    def _convolve(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = F.glu(self.conv_in(x), dim=-1) * mask.unsqueeze(2)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.conv_out(F.silu(self.depthwise_norm(x)))


class Encoder(nn.Module):
    """Acoustic frames from convolutions, and context frames from Conformer blocks on top of them."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.normalise = Normalise(config.mels)
        self.stem = Stem(config)
        self.project = nn.Linear(config.acoustic_dim, config.dim)
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.layers))

    def acoustic(self, mels: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels (batch, time, mel), lengths (batch,) -> frames (batch, time/4, acoustic_dim), lengths/4."""
        return self.stem(self.normalise(mels, frame_mask(lengths, mels.shape[1])), lengths)

    def forward(self, mels: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels (batch, time, mel), lengths (batch,) -> context frames (batch, time/4, dim), lengths/4."""
        x, lengths = self.acoustic(mels, lengths)
        x, mask = self.project(x), frame_mask(lengths, x.shape[1])
        for block in self.blocks:
            x = block(x, mask)
        return x, lengths
