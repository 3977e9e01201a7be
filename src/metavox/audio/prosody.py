"""Prosody from samples: pitch, voicing and energy of each frame, with at most two frames of context on either
side.

Pitch is the lag at which the autocorrelation of a frame, divided by that of its window, is highest (Boersma
1993, equation 9). Three measures prevent octave errors: the spectrum is compressed before it becomes an
autocorrelation (the generalised autocorrelation of Tolonen & Karjalainen 2000), neighbouring frames
contribute to the choice of the peak, and shorter lags get a small bonus.
"""

import math

import torch

from metavox.audio.framing import FLOOR, Framed
from metavox.config import EXTRA_WIDTHS

PITCH_HZ = (60.0, 500.0)  # search range
REFERENCE_HZ = 100.0  # log f0 is relative to it, and equal to it if there is no pitch at all
PERIODS = 3  # of the lowest pitch in a window: Boersma's choice
PASSBAND_HZ = (1000.0, 2000.0)  # the spectrum is used up to the first, and fades out until the second
COMPRESSION = 0.7  # exponent of the power spectrum
OCTAVE_BONUS = 0.02  # bonus for halving the lag, in units of the peaks' height
NEIGHBOURS = 2  # neighbouring frames on either side that are averaged
LAGS_HZ = 8000.0  # resolution of the lags before the parabola


class Prosody(Framed):
    """Columns: log f0 (nepers over 100 Hz; the best guess if unvoiced), voicing (0 for silence, 0.2 for
    noise, near 1 for a steady voice), energy (mean power of the window in nepers; log(FLOOR) for silence).
    """

    taper: torch.Tensor
    lags: torch.Tensor
    cosines: torch.Tensor
    window_autocorrelation: torch.Tensor
    width = EXTRA_WIDTHS["prosody"]

    def __init__(self, sample_rate_hz: int, hop: int):
        super().__init__()
        low, high = PITCH_HZ
        self.hop, self.window = hop, 2 * round(PERIODS * sample_rate_hz / low / 2)
        self.span = self.window + 2 * NEIGHBOURS * hop
        self.fft = 128 * math.ceil((self.window + sample_rate_hz / low + 1) / 128)  # no lag wraps around
        taper = torch.hann_window(self.window, periodic=False)
        lags = torch.arange(math.floor(LAGS_HZ / high) - 1, math.ceil(LAGS_HZ / low) + 2) / LAGS_HZ
        hz = torch.arange(self.fft // 2 + 1, dtype=torch.float64) * sample_rate_hz / self.fft
        hz = hz[hz < min(PASSBAND_HZ[1], sample_rate_hz / 2)]
        fade = ((hz - PASSBAND_HZ[0]) / (PASSBAND_HZ[1] - PASSBAND_HZ[0])).clamp(0, 1)
        passband = (1 + torch.cos(math.pi * fade)) * (1 - 0.5 * (hz == 0))
        cosines = torch.cos(2 * math.pi * hz[:, None] * torch.cat([torch.zeros(1), lags])) * passband[:, None]
        window_autocorrelation = torch.fft.rfft(taper.double(), self.fft)[: len(hz)].abs().square() @ cosines
        self.register_buffer("taper", taper / taper.square().sum().sqrt(), persistent=False)
        self.register_buffer("lags", lags, persistent=False)
        self.register_buffer("cosines", cosines.float(), persistent=False)
        self.register_buffer(
            "window_autocorrelation",
            (window_autocorrelation[1:] / window_autocorrelation[0]).float(),
            persistent=False,
        )

    def of_frames(self, samples: torch.Tensor) -> torch.Tensor:
        windows = samples.unfold(-1, self.window, self.hop)
        windows = (windows - windows.mean(dim=-1, keepdim=True)) * self.taper
        heights = self._autocorrelation(windows)
        smoothed = heights.unfold(-2, 2 * NEIGHBOURS + 1, 1).mean(dim=-1)
        inside = slice(NEIGHBOURS, NEIGHBOURS + smoothed.shape[-2])
        log_f0, voicing = self._peak(heights[..., inside, :], smoothed)
        energy = windows[..., inside, :].square().sum(dim=-1).clamp_min(FLOOR).log()
        return torch.stack([log_f0, voicing, energy], dim=-1)

    def _autocorrelation(self, windows: torch.Tensor) -> torch.Tensor:
        """Windows (..., frames, window) -> (..., frames, lags): about 1 at a period, 0 everywhere for
        silence.
        """
        spectrum = torch.fft.rfft(windows, self.fft)[..., : len(self.cosines)]
        power = (spectrum.real.square() + spectrum.imag.square()) ** COMPRESSION
        autocorrelation = power @ self.cosines
        silence = FLOOR**COMPRESSION * self.fft
        return autocorrelation[..., 1:] / (autocorrelation[..., :1] + silence) / self.window_autocorrelation

    def _peak(self, heights: torch.Tensor, smoothed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Autocorrelation of the frames and its average over neighbours, (..., frames, lags) -> log f0,
        voicing (..., frames).
        """
        before, here, after = heights[..., :-2], heights[..., 1:-1], heights[..., 2:]
        lags = self.lags[1:-1]
        peak = (here > before) & (here >= after) & (here > 0)
        value = (here + smoothed[..., 1:-1]) / 2 - OCTAVE_BONUS * torch.log2(lags)
        best = torch.where(peak, value, -torch.inf).argmax(dim=-1, keepdim=True)
        left, top, right = (x.gather(-1, best) for x in (before, here, after))
        # The vertex of a parabola through the three points lies between lags.
        shift = (0.5 * (right - left) / (2 * top - left - right).clamp_min(1e-9)).clamp(-0.5, 0.5)
        height = top + 0.25 * (right - left) * shift
        log_f0 = -(REFERENCE_HZ * (lags[best] + shift / LAGS_HZ)).log()
        found = peak.any(dim=-1, keepdim=True)
        return torch.where(found, log_f0, 0.0)[..., 0], torch.where(found, height.clamp(0, 1), 0.0)[..., 0]
