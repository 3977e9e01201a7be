"""An utterance's own mean taken out of each band."""

import torch
from torch import nn


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
