"""Subtracts a mean over time from each band: the utterance's own, or a running one for streams."""

import torch
from torch import nn

from metavox.recognisers.conformer.frontend.running import decayed_sum

DEPTH = 8.0  # nepers; farther below the speech there is only the recorder's noise floor, which does not distinguish words
MEMORY_FRAMES = 200  # of the running mean: two seconds
State = dict[str, torch.Tensor]


class Normalise(nn.Module):
    """Subtract a mean over time from each mel band, then scale and shift by learned weights.

    The mean removes a fixed channel. Frames are weighted by loudness, so that the share of silence around a
    word does not change the result. With `running` nothing looks ahead, as streams need.
    """

    def __init__(self, mels: int, running: bool = False):
        super().__init__()
        self.running = running
        self.scale = nn.Parameter(torch.full((mels,), 0.4))
        self.shift = nn.Parameter(torch.zeros(mels))

    def forward(
        self, mels: torch.Tensor, mask: torch.Tensor, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """Log-mels (batch, time, mel), mask (batch, time) -> (batch, time, mel) and the new state."""
        mean, state = self._running(mels, state or {}) if self.running else (_utterance(mels, mask), {})
        return ((mels - mean).clamp(-DEPTH, DEPTH) * self.scale + self.shift) * mask.unsqueeze(2), state

    def _running(self, mels: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        weight = (mels.mean(dim=2, keepdim=True) / 2.0).exp()
        decay = mels.new_tensor([1 - 1 / MEMORY_FRAMES])
        total, total_state = decayed_sum(weight * mels, decay, state.get("total"))
        share, share_state = decayed_sum(weight, decay, state.get("share"))
        return total / share, {"total": total_state, "share": share_state}


def _utterance(mels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    loudness = mels.mean(dim=2).masked_fill(~mask, -torch.inf)
    weight = (loudness / 2.0).softmax(dim=1).unsqueeze(2)
    return (weight * mels.masked_fill(~mask.unsqueeze(2), 0.0)).sum(dim=1, keepdim=True)
