"""Spectral enhancement: a noise floor tracked by minimum statistics, then a Wiener gain or power subtraction.

The noise floor of a band is the minimum of its smoothed power over the last second and a half (Martin 2001,
section II, with a fixed bias instead of the optimal smoothing). The gain is 1 - over * N/P (Wiener, from the
a-posteriori ratio) or its square root (power subtraction, Boll 1979, with over-subtraction and a floor as in
Berouti et al. 1979).
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
BIAS = 1.5  # the minimum of smoothed noise lies below its mean; Martin derives the bias, this one is for mel bands


class Enhance(nn.Module):
    """Attenuates tracked noise in log-mels, at most down to a floor that is learned together with `over`.

    With `running`, the noise is estimated from past frames only; otherwise from the complete utterance.
    """

    def __init__(self, method: Method, running: bool = False):
        super().__init__()
        self.method, self.running = method, running
        self.log_over = nn.Parameter(torch.tensor(1.5).log())
        self.log_floor = nn.Parameter(torch.tensor(0.05).log())

    def forward(
        self, mels: torch.Tensor, mask: torch.Tensor, state: State | None = None
    ) -> tuple[torch.Tensor, State]:
        """Log-mels (batch, time, mel), mask (batch, time) -> log-mels and the new state."""
        power = mels.exp()
        noise, state = self._noise(power, mask, state or {})
        remaining = 1 - self.log_over.exp() * noise / power
        gain = torch.maximum(remaining, self.log_floor.exp())
        log_gain = gain.log() if self.method == "wiener" else 0.5 * gain.log()
        return torch.where(mask.unsqueeze(2), mels + log_gain, mels), state

    def _noise(self, power: torch.Tensor, mask: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        smooth, carried = average(power, power.new_tensor([SMOOTHING]), state.get("smooth"))
        if not self.running:
            inside = smooth.masked_fill(~mask.unsqueeze(2), torch.inf)
            return BIAS * inside.amin(dim=1, keepdim=True), {}
        history = state.get("before")
        if history is None:
            history = smooth.new_full((len(smooth), WINDOW_FRAMES - 1, smooth.shape[2]), torch.inf)
        extended = torch.cat([history, smooth], dim=1)
        minimum = -F.max_pool1d(-extended.transpose(1, 2), WINDOW_FRAMES, 1).transpose(1, 2)
        return BIAS * minimum, {"smooth": carried, "before": extended[:, -(WINDOW_FRAMES - 1) :]}
