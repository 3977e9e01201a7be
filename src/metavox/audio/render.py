"""Turns modified log-mels back into audio."""

import numpy as np
import torch

from metavox.audio.features import LogMel


def render(samples: np.ndarray, changed: torch.Tensor, transform: LogMel, seed: int = 0) -> np.ndarray:
    """Samples (time,) and `changed`, a modified version (frames, mel) of their log-mels -> samples whose
    log-mels are about `changed`.

    Each bin of the spectrum is scaled by the change of the bands that cover it and keeps its phase. Faint
    noise is added first, so that a raised noise floor has something to amplify.
    """
    random = np.random.default_rng(seed)
    floored = torch.from_numpy(samples + random.normal(0, 1e-4, samples.shape).astype(np.float32))
    original = transform(floored)
    frames = min(len(original), len(changed))
    overlap = transform.bands / transform.bands.sum(dim=1, keepdim=True).clamp_min(1e-8)
    gain = ((changed[:frames] - original[:frames]) @ overlap.T / 2).exp()
    window = torch.hann_window(transform.config.window)
    spectrum = torch.stft(
        floored,
        transform.fft,
        transform.config.hop,
        transform.config.window,
        window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    scaled = spectrum[:, :frames] * gain.T
    out = torch.istft(
        scaled, transform.fft, transform.config.hop, transform.config.window, window, center=True
    ).numpy()
    return (out / max(1.0, float(np.abs(out).max()) / 0.9)).astype(np.float32)
