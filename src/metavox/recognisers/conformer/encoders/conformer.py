"""Convolutions and Conformer blocks, in which padding never changes a result.

In evaluation mode no normalisation looks beyond one frame, and frames past an item's end are set to zero
before each convolution, so an item gives the same output alone and in a padded batch. Conformer: Gulati et
al. 2020, section 2, without positional encoding: the convolutions encode the order.
"""

import torch
from torch import nn
from torch.nn import functional as F

from metavox.config import EncoderConfig
from metavox.recognisers.conformer.encoders.base import Encoder
from metavox.recognisers.conformer.frames import frame_mask, halve
from metavox.recognisers.conformer.frontend import FrontEnd


class Convolution(nn.Module):
    """A 3x3 convolution with batch normalisation, and a residual connection if the shapes allow it."""

    def __init__(self, into: int, out: int, stride: tuple[int, int] = (1, 1)):
        super().__init__()
        self.shortcut = into == out and stride == (1, 1)
        self.halves = stride[0] == 2  # the frames too, not only the bands
        self.convolve = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self._convolve(x))
        return F.relu(x + y if self.shortcut else y)

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        if self.convolve.stride[1] == 1 or x.shape[3] > 2:
            return self.convolve(x)  # type: ignore[no-any-return]
        # In bfloat16, a stride down to one band gives garbage on CPUs with AMX (pytorch issue 169688).
        with torch.autocast(x.device.type, enabled=False):
            return self.convolve(x.to(self.convolve.weight.dtype))  # type: ignore[no-any-return]


class Stem(nn.Module):
    """Convolutions over time and bands: a quarter of the frames, a sixteenth of the bands, four times the
    channels.

    With batch normalisation words were learned several times faster than with layer normalisation, and dense
    convolutions learned more per second on a CPU than separable ones. The running statistics change in joint
    training only; meta-learning and adaptation leave them as they are.
    """

    def __init__(self, config: EncoderConfig, streams: int):
        super().__init__()
        c = config.channels
        self.blocks = nn.Sequential(
            Convolution(streams, c, (2, 2)),
            Convolution(c, 2 * c, (2, 2)),
            Convolution(2 * c, 2 * c),
            Convolution(2 * c, 3 * c, (1, 2)),
            Convolution(3 * c, 3 * c),
            Convolution(3 * c, 4 * c, (1, 2)),
            Convolution(4 * c, 4 * c),
        )

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Streams (batch, stream, time, mel) -> acoustic frames (batch, time/4, channels * mel/4), lengths/4."""
        for block in self.blocks:
            x = block(x)
            lengths = halve(lengths) if block.halves else lengths
            x = x * frame_mask(lengths, x.shape[2])[:, None, :, None]
        return x.transpose(1, 2).flatten(2), lengths


class FeedForward(nn.Sequential):
    def __init__(self, dim: int, dropout: float):
        super().__init__(
            nn.LayerNorm(dim),
            nn.Linear(dim, 4 * dim),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * dim, dim),
            nn.Dropout(dropout),
        )


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


class ConformerEncoder(Encoder):
    """Acoustic frames from convolutions, and context frames from Conformer blocks on top of them."""

    def __init__(self, config: EncoderConfig, frontend: FrontEnd):
        super().__init__()
        self.config, self.frontend = config, frontend
        self.stem = Stem(config, frontend.channels)
        self.acoustic_dim, self.dim = config.channels * frontend.bands // 4, config.dim
        self.project = nn.Linear(self.acoustic_dim, config.dim)
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.layers))

    def acoustic(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.stem(self.frontend(features, lengths), lengths)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.context(*self.acoustic(features, lengths))

    def context(self, acoustic: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Acoustic frames (batch, frames, acoustic_dim) -> context frames (batch, frames, dim)."""
        x, mask = self.project(acoustic), frame_mask(lengths, acoustic.shape[1])
        for block in self.blocks:
            x = block(x, mask)
        return x, lengths

    def both(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        acoustic = self.acoustic(features, lengths)
        return acoustic, self.context(*acoustic)
