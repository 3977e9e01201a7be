"""Gentle changes of samples, which leave the words as they are: what a few recordings are multiplied by."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import scipy.fft

from metavox.audio import classical

CODECS = tuple(codec for codec in get_args(classical.Codec) if codec != "gsm")  # gsm is what is tested with
NARROW_HZ = ((50.0, 300.0), (3400.0, 7000.0))  # where a band begins and ends


@dataclass(frozen=True)
class Gentle:
    """How far recordings are changed, each thing with its chance.

    Speed by up to `rate_percent` (Ko et al. 2015); equalisation by up to `tilt_db` an octave, about 1 kHz; a small room
    that rings for `room_s`; noise `snr_db` below; a narrower band, or a codec.
    """

    rate_percent: int = 10
    tilt_db: float = 1.5
    room_s: tuple[float, float] = (0.1, 0.4)
    snr_db: tuple[float, float] = (15.0, 45.0)
    room_chance: float = 0.2
    noise_chance: float = 0.7
    channel_chance: float = 0.15


GENTLE = Gentle()


def gently_perturbed(
    samples: np.ndarray, rate: int, random: np.random.Generator, gentle: Gentle = GENTLE
) -> np.ndarray:
    """Samples (time,) at `rate` Hz -> float32 samples that say the same; length changes with the speed."""
    percent = 100 + int(random.integers(-gentle.rate_percent, gentle.rate_percent + 1))
    # Whole percents: resampling by a ratio of small numbers is quick.
    moved = classical.speed(np.asarray(samples, dtype=np.float32), rate, percent / 100)
    if len(moved) < 2:
        return moved
    moved = _tilted(moved, rate, random.uniform(-gentle.tilt_db, gentle.tilt_db))
    if random.random() < gentle.room_chance:
        response = classical.room(random.uniform(*gentle.room_s), rate, random, random.uniform(0.0, 10.0))
        moved = classical.reverberate(moved, response)
    if random.random() < gentle.noise_chance:
        quick = scipy.fft.next_fast_len(len(moved), real=True)
        other = classical.coloured(quick, random.uniform(0.0, 6.0), rate, random)[: len(moved)]
        moved = classical.noise(moved, other, random.uniform(*gentle.snr_db))
    if random.random() < gentle.channel_chance:
        moved = _through_channel(moved, rate, random)
    return moved


def _through_channel(samples: np.ndarray, rate: int, random: np.random.Generator) -> np.ndarray:
    """A band, as small loudspeakers and lines have it, or a codec."""
    if random.random() < 0.5:
        low, high = (random.uniform(*edge) for edge in NARROW_HZ)
        return classical.bandwidth(samples, rate, low, high)
    loudest = max(1.0, float(np.abs(samples).max()))  # a codec clips what is over full scale
    codec = CODECS[random.integers(len(CODECS))]
    return loudest * classical.coded(samples / loudest, rate, codec, random.uniform(0.3, 0.9))


def _tilted(samples: np.ndarray, rate: int, slope_db: float) -> np.ndarray:
    """Louder by `slope_db` an octave above 1 kHz and softer below; no louder on the whole."""
    quick = scipy.fft.next_fast_len(len(samples), real=True)
    frequency = np.clip(np.fft.rfftfreq(quick, 1 / rate), 125.0, 8000.0)
    gain = (frequency / 1000.0) ** (slope_db / 6.02)
    shaped = scipy.fft.irfft(scipy.fft.rfft(samples, quick) * gain, quick)[: len(samples)]
    level, before = np.sqrt(np.mean(shaped**2)), np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    return (shaped * (before / level if level > 0 else 1.0)).astype(np.float32)
