"""Whisper's log-mels, for a clip padded to any context up to 30 s."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from metavox.audio.features import slaney_bands

SAMPLE_RATE_HZ = 16_000
WINDOW, HOP = 400, 160  # samples
HOPS_PER_STATE = 2  # the encoder's second convolution halves the frames
STATE = HOP * HOPS_PER_STATE  # samples
FLOOR = 1e-10
RANGE = 8.0  # decades below the loudest point of a clip that are kept


def log_mels(clips: Sequence[np.ndarray], context: int, bands: int) -> torch.Tensor:
    """Log-mels (clips, bands, frames) of clips (time,) at 16 kHz, padded with zeros or cut to `context`
    samples.

    For a context of 30 s they equal those of transformers' WhisperFeatureExtractor: Slaney's mel bands of a
    Hann window's power, in decades, at most 8 below the clip's loudest point, (x + 4) / 4.
    """
    frames = context // HOP
    # Windows past the end of the longest clip hold only zeros and need not be computed.
    longest = max((min(len(clip), context) for clip in clips), default=0)
    computed = min(context, -(-(longest + WINDOW) // HOP) * HOP)
    samples = torch.zeros(len(clips), max(computed, WINDOW))
    for row, clip in zip(samples, clips, strict=True):
        samples_of_clip = torch.as_tensor(clip[:context], dtype=torch.float32)
        row[: len(samples_of_clip)] = samples_of_clip
    spectrum = torch.stft(samples, WINDOW, HOP, window=_window(), return_complex=True)[..., :-1]
    power = spectrum.real.square() + spectrum.imag.square()
    mels = (_bands(bands) @ power).clamp_(min=FLOOR).log10_()[..., :frames]
    mels = torch.nn.functional.pad(mels, (0, frames - mels.shape[-1]), value=float(np.log10(FLOOR)))
    mels = torch.maximum(mels, mels.amax((1, 2), keepdim=True) - RANGE)
    return mels.add_(4.0).div_(4.0)


@lru_cache(maxsize=1)
def _window() -> torch.Tensor:
    return torch.hann_window(WINDOW)


@lru_cache(maxsize=4)
def _bands(bands: int) -> torch.Tensor:
    """Mel filters (bands, frequencies)."""
    return slaney_bands(bands, WINDOW, SAMPLE_RATE_HZ).T.contiguous()
