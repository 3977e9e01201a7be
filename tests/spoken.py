"""Synthetic speech for tests that need a recording with a voice in it."""

from functools import lru_cache

import numpy as np

from metavox.audio.read import decode
from metavox.sources.synthetic import espeak
from metavox.sources.synthetic.espeak import SynthesisConfig, Text

RATE = 16000


@lru_cache(maxsize=64)
def spoken(text: str, language: str = "en-us", seed: int = 1, voice: str = "f1") -> np.ndarray:
    """Samples (time,) at RATE of a text that espeak-ng reads."""
    config = SynthesisConfig(voices=(voice,), renditions=1, seed=seed, rate=(150, 170))
    (recording,) = espeak.recordings(espeak.plan([Text(text, language, "sentence")], config), unspoken=[])
    samples, rate = decode(recording.data, "spoken.flac")
    assert rate == RATE
    return samples
