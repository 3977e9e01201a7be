"""Vocal-tract length: one number bends the band axis of a whole utterance (VTLN; Lee & Rose 1996)."""

import torch
from torch import nn


class Warp(nn.Module):
    """Both ends of the axis stay, its middle moves by `warp` of half the axis; 0 changes nothing. Differentiable."""

    def __init__(self) -> None:
        super().__init__()
        self.warp = nn.Parameter(torch.zeros(()))

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """(batch, time, mel) -> the same, read at bent places between bands."""
        bands = mels.shape[2]
        places = torch.arange(bands, device=mels.device, dtype=mels.dtype)
        b = (2 * places + 1) / bands - 1
        bent = (b + self.warp * (1 - b.square()) + 1) * bands / 2 - 0.5
        near = (1 - (bent.clamp(0, bands - 1)[:, None] - places[None, :]).abs()).clamp_min(0)  # (to, from)
        return mels @ near.T
