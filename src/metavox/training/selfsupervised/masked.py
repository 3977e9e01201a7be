"""Fill in what was masked: stretches of time and bands of frequency (in the manner of TERA, Liu et al. 2021)."""

from dataclasses import dataclass

import torch
from torch import nn

from metavox.recognisers.conformer import Encoder, frame_mask


@dataclass(frozen=True)
class Masking:
    """Shares of the frames and of the bands that are hidden, in spans."""

    time: float = 0.3
    frequency: float = 0.3
    span_frames: int = 16
    span_bands: int = 8

    def __call__(self, shape: tuple[int, int, int], random: torch.Generator) -> torch.Tensor:
        """(batch, time, mel) bool, true where hidden."""
        batch, time, bands = shape
        hidden_t = _spans(batch, time, self.time, self.span_frames, random)
        hidden_b = _spans(batch, bands, self.frequency, self.span_bands, random)
        return hidden_t.unsqueeze(2) | hidden_b.unsqueeze(1)


class MaskedReconstruction(nn.Module):
    """Loss: mean absolute error of normalised log-mels, where hidden and inside the utterance."""

    def __init__(self, encoder: Encoder, masking: Masking):
        super().__init__()
        self.encoder, self.masking = encoder, masking
        self.restore = nn.Linear(encoder.dim, encoder.subsampling * encoder.config.mels)

    def forward(self, mels: torch.Tensor, lengths: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Log-mels (batch, time, mel), lengths (batch,) -> scalar. Extras behind the log-mels are hidden with their frame."""
        (batch, time, width), bands = mels.shape, self.encoder.config.mels
        inside = frame_mask(lengths, time)
        mean = item_mean(mels, inside)
        target = (mels - mean)[..., :bands] / 4.0
        hidden = self.masking((batch, time, bands), random).to(mels.device)
        whole = hidden.all(dim=2, keepdim=True).expand(-1, -1, width - bands)
        filled = torch.where(torch.cat([hidden, whole], dim=2), mean, mels)
        frames, _ = self.encoder(filled, lengths)
        restored = self.restore(frames).reshape(batch, -1, bands)[:, :time]
        judged = hidden & inside.unsqueeze(2)
        return ((restored - target).abs() * judged).sum() / judged.sum().clamp_min(1)


def item_mean(mels: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Mean of each band over each utterance: (batch, 1, mel)."""
    weight = inside.unsqueeze(2).float()
    return (mels * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp_min(1)


def _spans(batch: int, size: int, share: float, span: int, random: torch.Generator) -> torch.Tensor:
    """(batch, size) bool: spans that start at random cover about `share` of the axis."""
    span = max(1, min(span, size // 2))
    chance = 1 - (1 - share) ** (1 / span)
    starts = torch.rand(batch, size + span - 1, generator=random) < chance
    return nn.functional.max_pool1d(starts.float().unsqueeze(1), span, stride=1).squeeze(1) > 0
