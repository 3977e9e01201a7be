"""Gentle perturbation of samples that keeps the words, to multiply a few recordings."""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from metavox.audio import classical

CODECS: tuple[classical.Codec, ...] = (
    "ulaw",
    "alaw",
    "mp3",
    "vorbis",
    "opus",
)  # the others are reserved for tests
NARROW_HZ = ((50.0, 300.0), (3400.0, 7000.0))  # ranges of the lower and the upper cutoff


@dataclass(frozen=True)
class Gentle:
    """Strength and probability of each change.

    Speed by up to `rate_percent` (Ko et al. 2015); equalisation by up to `tilt_db` per octave around 1 kHz; a
    small room with a decay time in `room_s`; noise at `snr_db`; a narrower band or a codec.
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
    """Samples (time,) at `rate` Hz -> perturbed float32 samples with the same words; the length changes with
    the speed.
    """
    percent = 100 + int(random.integers(-gentle.rate_percent, gentle.rate_percent + 1))
    # Whole percents, because resampling by a ratio of small integers is fast.
    out = classical.speed(np.asarray(samples, dtype=np.float32), rate, percent / 100)
    if len(out) < 2:
        return out
    out = _tilted(out, rate, random.uniform(-gentle.tilt_db, gentle.tilt_db))
    if random.random() < gentle.room_chance:
        response = classical.room(random.uniform(*gentle.room_s), rate, random, random.uniform(0.0, 10.0))
        out = classical.reverberate(out, response)
    if random.random() < gentle.noise_chance:
        fast_length = scipy.fft.next_fast_len(len(out), real=True)
        noise = classical.coloured(fast_length, random.uniform(0.0, 6.0), rate, random)[: len(out)]
        out = classical.noise(out, noise, random.uniform(*gentle.snr_db))
    if random.random() < gentle.channel_chance:
        out = _through_channel(out, rate, random)
    return out


def _through_channel(samples: np.ndarray, rate: int, random: np.random.Generator) -> np.ndarray:
    """A narrower band, as of small loudspeakers and telephone lines, or a codec."""
    if random.random() < 0.5:
        low, high = (random.uniform(*edge) for edge in NARROW_HZ)
        return classical.bandwidth(samples, rate, low, high)
    peak = max(1.0, float(np.abs(samples).max()))  # codecs clip above full scale
    codec = CODECS[random.integers(len(CODECS))]
    return peak * classical.coded(samples / peak, rate, codec, random.uniform(0.3, 0.9))


def _tilted(samples: np.ndarray, rate: int, slope_db: float) -> np.ndarray:
    """Raise frequencies above 1 kHz by `slope_db` per octave and lower those below; the overall level stays
    the same.
    """
    fast_length = scipy.fft.next_fast_len(len(samples), real=True)
    frequency = np.clip(np.fft.rfftfreq(fast_length, 1 / rate), 125.0, 8000.0)
    gain = (frequency / 1000.0) ** (slope_db / 6.02)
    shaped = scipy.fft.irfft(scipy.fft.rfft(samples, fast_length) * gain, fast_length)[: len(samples)]
    level, before = np.sqrt(np.mean(shaped**2)), np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    return (shaped * (before / level if level > 0 else 1.0)).astype(np.float32)
