"""The few columns of an extra, such as pitch, spread over the bands by a small linear map: a channel like the others.

Log f0 is taken relative to its mean, in which a frame counts by its voicing, as in Ghahremani et al. 2014 (section 3.2),
and energy relative to that of loud frames. Formants are relative to a neutral vocal tract as they come: a mean taken
out of them would take the vowel out of a word of one vowel.
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
        """(batch, time, 6), mask (batch, time) -> (batch, time, mel), and no state."""
        return self.spread(columns) * mask.unsqueeze(2), {}


class ProsodyStream(nn.Module):
    """Log f0, voicing and energy (batch, time, 3) to a channel. `running` looks back only, so that a stream gets the same."""

    PRIOR = (1.0, 1.0, 1e-9)  # of the sums of weights: without voicing the mean is the reference, 0

    def __init__(self, mels: int, running: bool = False):
        super().__init__()
        self.running = running
        self.spread = nn.Linear(EXTRAS["prosody"].width, mels)

    def forward(
        self, columns: torch.Tensor, mask: torch.Tensor, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """(batch, time, 3), mask (batch, time) -> (batch, time, mel), and the state behind it."""
        voicing, energy = columns[..., 1], columns[..., 2]
        weight = torch.stack([voicing, torch.zeros_like(voicing), (energy / 2.0).exp()], dim=2)
        weight = weight * mask.unsqueeze(2)
        total, share, behind = self._sums(weight * columns, weight, state or {})
        relative = (columns - total / (share + columns.new_tensor(self.PRIOR))).clamp(-DEPTH, DEPTH)
        pitch = relative[..., :1] * voicing.unsqueeze(2)
        out = self.spread(torch.cat([pitch, relative[..., 1:]], dim=2))
        return out * mask.unsqueeze(2), behind

    def _sums(
        self, weighted: torch.Tensor, weight: torch.Tensor, state: State
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        if not self.running:
            return weighted.sum(dim=1, keepdim=True), weight.sum(dim=1, keepdim=True), {}
        decay = weight.new_tensor([1 - 1 / MEMORY_FRAMES])
        total, total_state = decayed_sum(weighted, decay, state.get("total"))
        share, share_state = decayed_sum(weight, decay, state.get("share"))
        return total, share, {"total": total_state, "share": share_state}
