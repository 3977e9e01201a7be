"""Input normalisation: an equaliser that moves the running spectrum of the recordings towards that of training speech.

It is the counterpart of a running front end for a base model without one: cepstral mean normalisation (Atal 1974) of the
samples, limited, so that any kind of recogniser can follow it. Levels are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchaudio.functional as F

WINDOW, HOP, BANDS = 512, 160, 40
LOUD_DB = 30.0  # frames within this of the loudest are speech
FLOOR = 1e-10


@dataclass(frozen=True)
class EqualiserConfig:
    """`strength` is the share of the difference that is removed, at most `limit_db` per band; `memory` is the share of
    earlier recordings in the running spectrum, 0 for the recording alone."""

    strength: float = 1.0
    memory: float = 0.8
    limit_db: float = 12.0


class Equaliser:
    """Equalises one recording after another towards `reference`, a result of `spectrum`."""

    def __init__(self, reference: np.ndarray, rate: int, config: EqualiserConfig = EqualiserConfig()):
        self.reference, self.rate, self.config = reference, rate, config
        self._running: np.ndarray | None = None

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Samples (time,) -> float32 samples of the same length and level; silence is returned unchanged."""
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
        if level <= 0:
            return samples
        memory = self.config.memory if self._running is not None else 0.0
        earlier = self._running if self._running is not None else 0.0
        self._running = memory * earlier + (1 - memory) * spectrum([samples], self.rate)
        limit = self.config.limit_db
        gain_db = np.clip(self.config.strength * (self.reference - self._running), -limit, limit)
        hz = np.fft.rfftfreq(len(samples), 1 / self.rate)
        gain = 10 ** (np.interp(hz, _centres(self.rate), gain_db) / 20)
        shaped = np.fft.irfft(np.fft.rfft(samples) * gain, len(samples))
        return (shaped * (level / max(float(np.sqrt(np.mean(shaped**2))), 1e-12))).astype(np.float32)


def spectrum(clips: Sequence[np.ndarray], rate: int) -> np.ndarray:
    """The mean log spectrum of the speech in clips (time,), in dB relative to the mean over bands (BANDS,)."""
    filters = F.melscale_fbanks(WINDOW // 2 + 1, 50.0, rate / 2, BANDS, rate, norm="slaney")
    profiles = []
    for clip in clips:
        samples = torch.as_tensor(np.pad(clip, (0, max(0, WINDOW - len(clip)))), dtype=torch.float32)
        power = torch.stft(samples, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
        bands = 10 * (power.abs().square().T @ filters).clamp_min(FLOOR).log10()
        loudness = bands.logsumexp(1)
        profiles.append(bands[loudness >= loudness.max() - LOUD_DB].mean(dim=0).numpy())
    profile = np.mean(profiles, axis=0)
    return np.asarray(profile - profile.mean())


def _centres(rate: int) -> np.ndarray:
    """The centres of the bands (BANDS,), in Hz."""
    filters = F.melscale_fbanks(WINDOW // 2 + 1, 50.0, rate / 2, BANDS, rate, norm="slaney")
    return np.asarray(filters.argmax(dim=0).numpy() * rate / WINDOW)
