"""The vocal-tract stream: an all-pole envelope of each frame's spectrum, without its fine structure.

As in perceptual linear prediction (Hermansky 1990, section II.E), mel powers are a spectrum on a warped axis;
their cosine transform is an autocorrelation, and the Levinson recursion gives the poles. The encoder gets the
logarithm of the envelope, normalised as log-mels are.
"""

import math

import torch

from metavox.audio.framing import FLOOR
from metavox.audio.levinson import levinson

ORDER = 12


def envelope(mels: torch.Tensor, order: int = ORDER) -> torch.Tensor:
    """Log-mels (..., mel) -> log power of the all-pole envelope at the same bands (..., mel)."""
    bands = mels.shape[-1]
    grid = math.pi * (torch.arange(bands, device=mels.device) + 0.5) / bands
    lags = torch.arange(order + 1, device=mels.device)
    peak = mels.amax(dim=-1, keepdim=True)
    # Hearing follows a compressed power (its cube root), which also keeps the poles stable in single precision.
    power = ((mels - peak) / 3.0).exp()
    autocorrelation = power @ torch.cos(grid[:, None] * lags) / bands
    autocorrelation = autocorrelation * (1.0 + 1e-4 * (lags == 0))
    coefficients, error = levinson(autocorrelation)
    angles = grid[:, None] * lags
    real, imaginary = coefficients @ torch.cos(angles).T, coefficients @ torch.sin(angles).T
    log_envelope = error.clamp_min(1e-12).log() - (real.square() + imaginary.square()).clamp_min(1e-12).log()
    return (3.0 * log_envelope + peak).clamp_min(math.log(FLOOR))
