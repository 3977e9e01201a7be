"""Prosody from samples: pitch, voicing and energy of each frame, from no more than two frames on either side.

Pitch is the lag at which the autocorrelation of a frame, divided by that of its window, is highest (Boersma 1993,
equation 9). Against octave errors the spectrum is compressed before it becomes an autocorrelation (the generalised
autocorrelation of Tolonen & Karjalainen 2000), frames near it have a say in which peak is taken, and a shorter lag is
worth a little.
"""

import math

import torch

from metavox.audio.framing import FLOOR, Framed
from metavox.config import EXTRA_WIDTHS

PITCH_HZ = (60.0, 500.0)  # lowest and highest that are looked for
REFERENCE_HZ = 100.0  # log f0 is relative to it, and is it where there is no pitch at all
PERIODS = 3  # of the lowest pitch in a window: Boersma's choice
PASSED_HZ = (1000.0, 2000.0)  # the spectrum is used up to the first, and fades out until the second
COMPRESSION = 0.7  # exponent of the power spectrum
HIGHER = 0.02  # what a lag of half the length is worth, in units of the peaks' height
AROUND = 2  # frames on either side that are listened to
LAGS_HZ = 8000.0  # resolution of the lags before the parabola


class Prosody(Framed):
    """Columns: log f0 (nepers over 100 Hz; of the best guess where unvoiced), voicing (0 silence, 0.2 noise, near 1 a steady
    speaker), energy (nepers, mean power of the window, silence is log(FLOOR))."""

    taper: torch.Tensor
    lags: torch.Tensor
    cosines: torch.Tensor
    own: torch.Tensor
    width = EXTRA_WIDTHS["prosody"]

    def __init__(self, sample_rate_hz: int, hop: int):
        super().__init__()
        low, high = PITCH_HZ
        self.hop, self.window = hop, 2 * round(PERIODS * sample_rate_hz / low / 2)
        self.span = self.window + 2 * AROUND * hop
        self.fft = 128 * math.ceil((self.window + sample_rate_hz / low + 1) / 128)  # no lag wraps around
        taper = torch.hann_window(self.window, periodic=False)
        lags = torch.arange(math.floor(LAGS_HZ / high) - 1, math.ceil(LAGS_HZ / low) + 2) / LAGS_HZ
        hz = torch.arange(self.fft // 2 + 1, dtype=torch.float64) * sample_rate_hz / self.fft
        hz = hz[hz < min(PASSED_HZ[1], sample_rate_hz / 2)]
        fade = ((hz - PASSED_HZ[0]) / (PASSED_HZ[1] - PASSED_HZ[0])).clamp(0, 1)
        passed = (1 + torch.cos(math.pi * fade)) * (1 - 0.5 * (hz == 0))
        cosines = torch.cos(2 * math.pi * hz[:, None] * torch.cat([torch.zeros(1), lags])) * passed[:, None]
        own = torch.fft.rfft(taper.double(), self.fft)[: len(hz)].abs().square() @ cosines
        self.register_buffer("taper", taper / taper.square().sum().sqrt(), persistent=False)
        self.register_buffer("lags", lags, persistent=False)
        self.register_buffer("cosines", cosines.float(), persistent=False)
        self.register_buffer("own", (own[1:] / own[0]).float(), persistent=False)

    def of_frames(self, samples: torch.Tensor) -> torch.Tensor:
        windows = samples.unfold(-1, self.window, self.hop)
        windows = (windows - windows.mean(dim=-1, keepdim=True)) * self.taper
        heights = self._autocorrelation(windows)
        heard = heights.unfold(-2, 2 * AROUND + 1, 1).mean(dim=-1)
        inside = slice(AROUND, AROUND + heard.shape[-2])
        log_f0, voicing = self._peak(heights[..., inside, :], heard)
        energy = windows[..., inside, :].square().sum(dim=-1).clamp_min(FLOOR).log()
        return torch.stack([log_f0, voicing, energy], dim=-1)

    def _autocorrelation(self, windows: torch.Tensor) -> torch.Tensor:
        """(..., frames, window) -> (..., frames, lags), about 1 at a period; silence 0 everywhere."""
        spectrum = torch.fft.rfft(windows, self.fft)[..., : len(self.cosines)]
        power = (spectrum.real.square() + spectrum.imag.square()) ** COMPRESSION
        found = power @ self.cosines
        silence = FLOOR**COMPRESSION * self.fft
        return found[..., 1:] / (found[..., :1] + silence) / self.own

    def _peak(self, heights: torch.Tensor, heard: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Heights, and those of the frames around, (..., frames, lags) -> log f0, voicing (..., frames)."""
        before, here, after = heights[..., :-2], heights[..., 1:-1], heights[..., 2:]
        lags = self.lags[1:-1]
        peak = (here > before) & (here >= after) & (here > 0)
        worth = (here + heard[..., 1:-1]) / 2 - HIGHER * torch.log2(lags)
        best = torch.where(peak, worth, -torch.inf).argmax(dim=-1, keepdim=True)
        left, top, right = (x.gather(-1, best) for x in (before, here, after))
        # A parabola through the three: its vertex lies between lags.
        shift = (0.5 * (right - left) / (2 * top - left - right).clamp_min(1e-9)).clamp(-0.5, 0.5)
        height = top + 0.25 * (right - left) * shift
        log_f0 = -(REFERENCE_HZ * (lags[best] + shift / LAGS_HZ)).log()
        found = peak.any(dim=-1, keepdim=True)
        return torch.where(found, log_f0, 0.0)[..., 0], torch.where(found, height.clamp(0, 1), 0.0)[..., 0]
