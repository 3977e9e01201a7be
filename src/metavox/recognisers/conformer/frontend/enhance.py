"""Spectral enhancement: a noise floor tracked by minimum statistics, then a Wiener gain or a subtraction.

The floor of a band is the least of its smoothed power over the last second and a half (Martin 2001, section II,
with a fixed bias instead of the optimal smoothing). Gain: 1 - over * N/P (Wiener, from the a-posteriori ratio), or
its square root (power subtraction, Boll 1979, with over-subtraction and a floor as in Berouti et al. 1979).
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from metavox.recognisers.conformer.frontend.normalise import State
from metavox.recognisers.conformer.frontend.running import average

Method = Literal["wiener", "subtraction"]
WINDOW_FRAMES = 150
SMOOTHING = 0.1
BIAS = 1.5  # the minimum of a smoothed noise lies under its mean; Martin derives it, this is for mel bands


class Enhance(nn.Module):
    """Log-mels with the tracked noise taken out, at most down to a floor that is learned along with `over`.

    `running` follows the noise from the frames so far; otherwise the whole utterance tells it.
    """

    def __init__(self, method: Method, running: bool = False):
        super().__init__()
        self.method, self.running = method, running
        self.log_over = nn.Parameter(torch.tensor(1.5).log())
        self.log_floor = nn.Parameter(torch.tensor(0.05).log())

    def forward(
        self, mels: torch.Tensor, mask: torch.Tensor, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """Log-mels (batch, time, mel), mask (batch, time) -> log-mels, and the state behind them."""
        power = mels.exp()
        noise, state = self._noise(power, mask, state or {})
        left = 1 - self.log_over.exp() * noise / power
        gain = torch.maximum(left, self.log_floor.exp())
        log_gain = gain.log() if self.method == "wiener" else 0.5 * gain.log()
        return torch.where(mask.unsqueeze(2), mels + log_gain, mels), state

    def _noise(self, power: torch.Tensor, mask: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        smooth, carried = average(power, power.new_tensor([SMOOTHING]), state.get("smooth"))
        if not self.running:
            inside = smooth.masked_fill(~mask.unsqueeze(2), torch.inf)
            return BIAS * inside.amin(dim=1, keepdim=True), {}
        before = state.get("before")
        if before is None:
            before = smooth.new_full((len(smooth), WINDOW_FRAMES - 1, smooth.shape[2]), torch.inf)
        seen = torch.cat([before, smooth], dim=1)
        least = -F.max_pool1d(-seen.transpose(1, 2), WINDOW_FRAMES, 1).transpose(1, 2)
        return BIAS * least, {"smooth": carried, "before": seen[:, -(WINDOW_FRAMES - 1) :]}
