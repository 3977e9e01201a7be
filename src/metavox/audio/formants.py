"""Formants from samples: resonances of the vocal tract, found as roots of a linear predictor of each frame.

The predictor covers only the band below `CEILING_HZ` (selective linear prediction, Makhoul 1975), which saves
resampling. Two poles per 1100 Hz, a Gaussian window and pre-emphasis from 50 Hz are Praat's choices. A root
far from the unit circle shapes the spectrum as a whole and is not a formant (Markel & Gray 1976, chapter 7).
"""

import math

import torch

from metavox.audio.framing import Framed
from metavox.audio.levinson import levinson
from metavox.config import EXTRA_WIDTHS

CEILING_HZ = 5500.0  # five formants of an adult lie below it
NEUTRAL_HZ = (500.0, 1500.0, 2500.0)  # of a uniform tube of 17 cm; log frequencies are relative to them
BANDWIDTH_HZ = 100.0  # log bandwidths are relative to it
WINDOW_S = 0.05
EMPHASIS_HZ = 50.0
LOWEST_HZ = 90.0
NARROWEST_HZ, WIDEST_HZ = 10.0, 1000.0
WHITE_NOISE = 1e-9  # share of a frame's power, added so that a pure tone has a predictor too
SILENCE = 1e-10  # power added to every frame, below the quantisation step of 16 bits


class Formants(Framed):
    """Columns: log frequencies of F1, F2, F3 (nepers over 500, 1500, 2500 Hz), then their log bandwidths
    (nepers over 100 Hz).

    A longer vocal tract subtracts the same number from all three frequencies. A missing formant gets the
    neutral frequency and the greatest bandwidth.
    """

    taper: torch.Tensor
    cosines: torch.Tensor
    neutral: torch.Tensor
    width = EXTRA_WIDTHS["formants"]

    def __init__(self, sample_rate_hz: int, hop: int):
        super().__init__()
        self.hop, self.span = hop, 2 * round(WINDOW_S * sample_rate_hz / 2)
        self.ceiling = min(CEILING_HZ, sample_rate_hz / 2)
        self.order = 2 * round(self.ceiling / 1100)
        self.fft = 1 << (self.span - 1).bit_length()
        positions = (torch.arange(self.span, dtype=torch.float64) + 0.5) / self.span - 0.5
        taper = torch.exp(-48 * positions.square()) - math.exp(-12)
        hz = torch.arange(self.fft // 2 + 1, dtype=torch.float64) * sample_rate_hz / self.fft
        hz = hz[hz <= self.ceiling]
        pole = math.exp(-2 * math.pi * EMPHASIS_HZ / sample_rate_hz)
        emphasis = 1 + pole**2 - 2 * pole * torch.cos(2 * math.pi * hz / sample_rate_hz)
        weight = emphasis * (2 - 1.0 * (hz == 0) - 1.0 * (hz == self.ceiling))
        cosines = torch.cos(math.pi * hz[:, None] / self.ceiling * torch.arange(self.order + 1))
        self.register_buffer("taper", (taper / taper.square().sum().sqrt()).float(), persistent=False)
        self.register_buffer("cosines", weight[:, None] * cosines, persistent=False)
        self.register_buffer("neutral", torch.tensor(NEUTRAL_HZ), persistent=False)

    def of_frames(self, samples: torch.Tensor) -> torch.Tensor:
        windows = samples.unfold(-1, self.span, self.hop)
        windows = (windows - windows.mean(dim=-1, keepdim=True)) * self.taper
        spectrum = torch.fft.rfft(windows, self.fft)[..., : len(self.cosines)]
        # In double precision: close roots move far with a small error.
        power = (spectrum.real.square() + spectrum.imag.square()).double()
        autocorrelation = power @ self.cosines
        silence = SILENCE * float(self.cosines[:, 0].sum())
        autocorrelation[..., 0] += WHITE_NOISE * autocorrelation[..., 0] + silence
        hz, width_hz = self._resonances(levinson(autocorrelation)[0])
        missing = hz.isinf()
        log_hz = torch.where(missing, 0.0, (hz / self.neutral).log())
        log_width = torch.where(missing, math.log(WIDEST_HZ / BANDWIDTH_HZ), (width_hz / BANDWIDTH_HZ).log())
        return torch.cat([log_hz, log_width], dim=-1).to(samples.dtype)

    def _resonances(self, polynomial: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Polynomial (..., order + 1) -> frequencies and bandwidths (..., 3) in Hz, lowest first; infinite if
        there are fewer.
        """
        companion = torch.diag(polynomial.new_ones(self.order - 1), -1).repeat(*polynomial.shape[:-1], 1, 1)
        companion[..., 0, :] = -polynomial[..., 1:]
        roots = torch.linalg.eigvals(companion)
        hz = roots.angle() * self.ceiling / math.pi
        width_hz = (-2 * self.ceiling / math.pi * roots.abs().clamp_min(1e-9).log()).clamp_min(NARROWEST_HZ)
        formant = (hz > LOWEST_HZ) & (hz < self.ceiling - 50) & (width_hz < WIDEST_HZ)
        frequencies, order = torch.where(formant, hz, torch.inf).sort(dim=-1)
        return frequencies[..., :3], width_hz.gather(-1, order[..., :3])
