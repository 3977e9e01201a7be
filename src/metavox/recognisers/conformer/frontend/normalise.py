"""A mean over time taken out of each band: the utterance's own, or a running one that a stream can have."""

import torch
from torch import nn

from metavox.recognisers.conformer.frontend.running import decayed_sum

DEPTH = 8.0  # nepers; farther under the speech there is only the recorder's floor: nothing there tells words apart
MEMORY_FRAMES = 200  # of the running mean: two seconds
State = dict[str, torch.Tensor]


class Normalise(nn.Module):
    """Take a mean over time out of each mel band, then scale and shift by learned weights.

    The mean removes a fixed channel. Frames count by their loudness, so that the share of silence
    around a word does not move the result. `running` looks back only, so that a stream gets the same.
    """

    def __init__(self, mels: int, running: bool = False):
        super().__init__()
        self.running = running
        self.scale = nn.Parameter(torch.full((mels,), 0.4))
        self.shift = nn.Parameter(torch.zeros(mels))

    def forward(
        self, mels: torch.Tensor, mask: torch.Tensor, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """(batch, time, mel) log-mel, mask (batch, time) -> (batch, time, mel), and the state behind it."""
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
