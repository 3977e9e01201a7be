"""Signals with known pitch and formants, and synthetic speech for comparison with Praat."""

import io
from functools import cache

import numpy as np
import scipy.signal
import soundfile

from metavox.sources.synthetic.espeak import SynthesisConfig, Text, plan, recordings

RATE = 16000
VOWELS = {"i": (280, 2250, 2900), "e": (450, 2000, 2600), "a": (750, 1250, 2550), "o": (480, 850, 2450)}
SOUNDS = {
    "silence": np.zeros(8000),
    "one sample": np.ones(1),
    "no sample": np.zeros(0),
    "a click": np.eye(1, 8000, 4000)[0],
    "0.02 s": np.random.default_rng(0).normal(0, 0.1, 320),
    "constant": np.full(8000, 0.7),
    "square": np.sign(np.sin(np.arange(8000) / 10)),
    "underflow": np.full(8000, 1e-30),
    "loud": 1e6 * np.sin(np.arange(8000) / 7),
}


def harmonic(
    f0: np.ndarray | float, seconds: float = 1.0, rate: int = RATE, top_hz: float = 7000.0
) -> np.ndarray:
    """All harmonics below `top_hz`, falling by 6 dB per octave; `f0` is one number, or one per sample."""
    pitch = np.broadcast_to(np.asarray(f0, float), round(seconds * rate))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    waves = sum(np.sin(k * phase) / k for k in range(1, int(top_hz / pitch.max()) + 1))
    return (0.1 * waves).astype(np.float32)


def vowel(formants_hz: tuple[float, ...], period: int, seconds: float = 0.6, rate: int = RATE) -> np.ndarray:
    """Glottal pulses every `period` samples, through one resonator per formant (Klatt 1980)."""
    sound = np.zeros(round(seconds * rate))
    sound[::period] = 1.0
    low_pass = [1, -np.exp(-2 * np.pi * 100 / rate)]
    sound = scipy.signal.lfilter([1, -1], np.convolve(low_pass, low_pass), sound)
    for hz, width_hz in zip((*formants_hz, 3500, 4500), (60, 90, 120, 150, 200), strict=True):
        if hz > rate / 2:
            break
        radius = np.exp(-np.pi * width_hz / rate)
        poles = np.array([1, -2 * radius * np.cos(2 * np.pi * hz / rate), radius**2])
        sound = scipy.signal.lfilter([poles.sum()], poles, sound)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


@cache
def spoken() -> tuple[np.ndarray, ...]:
    """Sentences (time,) by espeak-ng in male and female voices."""
    texts = [Text("we were away a year ago and nobody knew where the yellow lion lay", "en-us")]
    texts.append(Text("los perros grandes comen la carne de la mesa", "es"))
    planned = plan(texts, SynthesisConfig(voices=("m3", "f1", "max", "Annie"), renditions=4, seed=3))
    return tuple(
        soundfile.read(io.BytesIO(recording.data), dtype="float32")[0]
        for recording in recordings(planned, workers=1)
    )
