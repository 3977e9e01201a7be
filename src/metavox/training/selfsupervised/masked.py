"""Masked reconstruction of time spans and frequency bands (similar to TERA, Liu et al. 2021)."""

from dataclasses import dataclass

import torch
from torch import nn

from metavox.recognisers.conformer import Encoder, frame_mask
from metavox.training.distributed import ALONE, Ranks


@dataclass(frozen=True)
class Masking:
    """The shares of frames and bands that are masked, in spans."""

    time: float = 0.3
    frequency: float = 0.3
    span_frames: int = 16
    span_bands: int = 8

    def __call__(self, shape: tuple[int, int, int], random: torch.Generator) -> torch.Tensor:
        """A random mask (batch, time, mel), true where masked."""
        batch, time, bands = shape
        hidden_frames = _spans(batch, time, self.time, self.span_frames, random)
        hidden_bands = _spans(batch, bands, self.frequency, self.span_bands, random)
        return hidden_frames.unsqueeze(2) | hidden_bands.unsqueeze(1)


class MaskedReconstruction(nn.Module):
    """Loss: mean absolute error of normalised log-mels, where masked and inside the utterance."""

    def __init__(self, encoder: Encoder, masking: Masking):
        super().__init__()
        self.encoder, self.masking = encoder, masking
        self.restore = nn.Linear(encoder.dim, encoder.subsampling * encoder.frontend.bands)

    def forward(
        self, mels: torch.Tensor, lengths: torch.Tensor, random: torch.Generator, ranks: Ranks = ALONE
    ) -> torch.Tensor:
        """Log-mels (batch, time, mel), lengths (batch,) -> scalar. Extra features after the log-mels are masked
        where the whole frame is."""
        bands, share = self.encoder.frontend.bands, ranks.share(len(mels))
        hidden = self.masking((len(mels), mels.shape[1], bands), random)[share].to(mels.device)
        mels, lengths = mels[share], lengths[share]
        batch, time, width = mels.shape
        inside = frame_mask(lengths, time)
        mean = item_mean(mels, inside)
        target = (mels - mean)[..., :bands] / 4.0
        fully_hidden = hidden.all(dim=2, keepdim=True).expand(-1, -1, width - bands)
        filled = torch.where(torch.cat([hidden, fully_hidden], dim=2), mean, mels)
        frames, _ = self.encoder(filled, lengths)
        restored = self.restore(frames).reshape(batch, -1, bands)[:, :time]
        scored = hidden & inside.unsqueeze(2)
        return ranks.mean(((restored - target).abs() * scored).sum(), scored.sum())


def item_mean(mels: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Mean of each band over each utterance: (batch, 1, mel)."""
    weight = inside.unsqueeze(2).float()
    return (mels * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp_min(1)


def _spans(batch: int, size: int, fraction: float, span: int, random: torch.Generator) -> torch.Tensor:
    """A random mask (batch, size) of spans that cover about `fraction` of the axis."""
    span = max(1, min(span, size // 2))
    chance = 1 - (1 - fraction) ** (1 / span)
    starts = torch.rand(batch, size + span - 1, generator=random) < chance
    return nn.functional.max_pool1d(starts.float().unsqueeze(1), span, stride=1).squeeze(1) > 0
