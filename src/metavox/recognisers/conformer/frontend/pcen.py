"""Per-channel energy normalisation: automatic gain control in each band, then a root (Wang et al. 2017,
equation 1).
"""

import torch
from torch import nn

from metavox.audio.features import FLOOR
from metavox.recognisers.conformer.frontend.normalise import State
from metavox.recognisers.conformer.frontend.running import average


class Pcen(nn.Module):
    """(E / (floor + M)^alpha + delta)^r - delta^r, with M the running average of E with weight s.

    Each band has its own alpha, delta and r, and all share one s; they are trained as logarithms (s as a
    logit), which keeps them positive. E is relative to full scale, so M is raised to alpha in units of the
    floor: quiet and loud recordings give similar values.
    """

    def __init__(
        self, mels: int, alpha: float = 0.98, delta: float = 2.0, root: float = 0.5, s: float = 0.025
    ):
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((mels,), alpha).log())
        self.log_delta = nn.Parameter(torch.full((mels,), delta).log())
        self.log_root = nn.Parameter(torch.full((mels,), root).log())
        self.logit_s = nn.Parameter(torch.logit(torch.tensor([s])))

    def forward(
        self, mels: torch.Tensor, mask: torch.Tensor, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """Log-mels (batch, time, mel), mask (batch, time) -> (batch, time, mel) and the new state."""
        energy = mels.exp() / FLOOR
        smooth, carried = average(energy, self.logit_s.sigmoid(), (state or {}).get("smooth"))
        alpha, delta, root = self.log_alpha.exp(), self.log_delta.exp(), self.log_root.exp()
        gained = energy * (-alpha * (1 + smooth).log()).exp()
        out = (gained + delta) ** root - delta**root
        return out * mask.unsqueeze(2), {"smooth": carried}
