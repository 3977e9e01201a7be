"""Spreads the columns of an extra, such as pitch, over the bands by a small linear map: one more channel.

Log f0 is relative to its mean over frames weighted by voicing, as in Ghahremani et al. 2014 (section 3.2),
and energy is relative to that of loud frames. Formants are relative to a neutral vocal tract: subtracting a
mean would remove the vowel of a word with one vowel.
"""

import torch
from torch import nn

from metavox.audio.features import EXTRAS
from metavox.recognisers.conformer.frontend.normalise import DEPTH, MEMORY_FRAMES, State
from metavox.recognisers.conformer.frontend.running import decayed_sum


class FormantStream(nn.Module):
    """Formant columns (batch, time, 6) to a channel; `spread` has a weight for each band and column."""

    def __init__(self, mels: int):
        super().__init__()
        self.spread = nn.Linear(EXTRAS["formants"].width, mels)

    def forward(
        self, columns: torch.Tensor, mask: torch.Tensor, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """(batch, time, 6), mask (batch, time) -> (batch, time, mel) and an empty state."""
        return self.spread(columns) * mask.unsqueeze(2), {}


class ProsodyStream(nn.Module):
    """Log f0, voicing and energy (batch, time, 3) to a channel. With `running` nothing looks ahead, as
    streams need.
    """

    PRIOR = (1.0, 1.0, 1e-9)  # added to the sums of weights: without voicing the mean is the reference, 0

    def __init__(self, mels: int, running: bool = False):
        super().__init__()
        self.running = running
        self.spread = nn.Linear(EXTRAS["prosody"].width, mels)

    def forward(
        self, columns: torch.Tensor, mask: torch.Tensor, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """(batch, time, 3), mask (batch, time) -> (batch, time, mel) and the new state."""
        voicing, energy = columns[..., 1], columns[..., 2]
        weight = torch.stack([voicing, torch.zeros_like(voicing), (energy / 2.0).exp()], dim=2)
        weight = weight * mask.unsqueeze(2)
        total, share, new_state = self._sums(weight * columns, weight, state or {})
        relative = (columns - total / (share + columns.new_tensor(self.PRIOR))).clamp(-DEPTH, DEPTH)
        pitch = relative[..., :1] * voicing.unsqueeze(2)
        out = self.spread(torch.cat([pitch, relative[..., 1:]], dim=2))
        return out * mask.unsqueeze(2), new_state

    def _sums(
        self, weighted: torch.Tensor, weight: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        if not self.running:
            return weighted.sum(dim=1, keepdim=True), weight.sum(dim=1, keepdim=True), {}
        decay = weight.new_tensor([1 - 1 / MEMORY_FRAMES])
        total, total_state = decayed_sum(weighted, decay, state.get("total"))
        share, share_state = decayed_sum(weight, decay, state.get("share"))
        return total, share, {"total": total_state, "share": share_state}
