"""Vocal-tract length normalisation: one number warps the band axis of all frames (VTLN; Lee & Rose 1996)."""

import torch
from torch import nn


class Warp(nn.Module):
    """Keeps both ends of the band axis and moves its middle by `warp` of half the axis; 0 changes nothing.

    Differentiable in `warp`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.warp = nn.Parameter(torch.zeros(()))

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """(batch, time, mel) -> the same, interpolated at warped positions between bands."""
        bands = mels.shape[2]
        positions = torch.arange(bands, device=mels.device, dtype=mels.dtype)
        b = (2 * positions + 1) / bands - 1
        warped = (b + self.warp * (1 - b.square()) + 1) * bands / 2 - 0.5
        weights = (1 - (warped.clamp(0, bands - 1)[:, None] - positions[None, :]).abs()).clamp_min(
            0
        )  # (to, from)
        return mels @ weights.T
