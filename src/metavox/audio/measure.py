"""Signal measures of a recording: level, offset, clipping, silence, noise, bandwidth.

Every measure is a finite number for every finite input: silence, a lone click, one sample, a constant.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

FRAME_S = 0.02
SILENT_PEAK = 1e-4  # 80 dB below full scale: nothing audible was recorded
SILENT_FRAME_DB = -40.0  # relative to the loudest frame
FLOOR_DB = -120.0
SNR_RANGE_DB = (-20.0, 100.0)
FULL_SCALE = 0.99
FLAT_STEP = 1e-4  # three steps of a 16-bit recording
CLIPPED_RUN = 3
MAX_OVERSHOOT = (
    2.0  # clipped tops come back from a lossy codec at up to 1.6; a higher peak is gain, not clipping
)
BAND_DB = -60.0  # relative to the strongest band; below it the spectrum counts as empty
BAND_FROM_HZ = 200.0  # mains hum must not set the reference; every voice has energy above it
FFT_S = 0.032
FFT_BLOCK = 4096  # frames per block, so that an hour needs no more memory than a minute


@dataclass(frozen=True)
class Measures:
    """Levels are relative to full scale: 1.0, or 0 dB."""

    duration_s: float
    peak: float  # largest absolute sample
    rms_db: float  # at least -120
    dc_offset: float  # absolute mean
    clipping: float  # share of samples in runs at full scale
    silence: float  # share of frames 40 dB below the loudest one; 1.0 if nothing was recorded
    snr_db: float  # -20 to 100; loud frames against quiet ones, so 0 or less for a steady sound
    bandwidth_hz: float  # highest frequency within 60 dB of the strongest; 0 for silence


def measure(samples: np.ndarray, sample_rate_hz: int) -> Measures:
    """Measure finite mono samples (time,) float32.

    Raises ValueError if the samples are not one-dimensional or the rate is not positive.
    """
    if samples.ndim != 1 or sample_rate_hz <= 0:
        raise ValueError(f"samples {samples.shape} at {sample_rate_hz} Hz; expected (time,) and a rate")
    duration_s = samples.size / sample_rate_hz
    peak = float(np.abs(samples).max()) if samples.size else 0.0
    mean = float(samples.mean(dtype=np.float64)) if samples.size else 0.0
    centred = (samples - np.float32(mean)).astype(np.float32, copy=False)
    swing = float(np.abs(centred).max()) if samples.size else 0.0
    if swing < SILENT_PEAK:
        return Measures(duration_s, peak, _db(mean**2), abs(mean), _clipping(samples), 1.0, 0.0, 0.0)
    centred = centred / np.float32(swing)  # at most 1, so that no square overflows or vanishes
    power = _frame_power(centred, sample_rate_hz)
    mean_power = float(np.square(centred, dtype=np.float64).mean())
    return Measures(
        duration_s=duration_s,
        peak=peak,
        rms_db=_db(mean_power * swing**2 + mean**2),
        dc_offset=abs(mean),
        clipping=_clipping(samples),
        silence=float((power < power.max() * 10 ** (SILENT_FRAME_DB / 10)).mean()),
        snr_db=_snr_db(power),
        bandwidth_hz=_bandwidth_hz(centred, sample_rate_hz),
    )


def _db(power: float) -> float:
    return float(max(FLOOR_DB, 10 * np.log10(max(power, 1e-300))))


def _frame_power(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Mean square (frame,) of 20 ms frames; a last frame shorter than half of that is dropped."""
    length = max(1, round(FRAME_S * sample_rate_hz))
    starts = np.arange(0, samples.size, length)
    counts = np.diff(np.append(starts, samples.size))
    power = np.add.reduceat(np.square(samples, dtype=np.float64), starts) / counts
    return power[:-1] if power.size > 1 and counts[-1] < length / 2 else power


def _clipping(samples: np.ndarray) -> float:
    """Share of samples in runs of three or more that stay at or above full scale.

    The run must be flat: a loud low tone lingers near its peak too, but bends. A lossy codec makes clipped
    tops ripple above full scale, so samples above it count without being flat, unless they exceed it by far:
    then the recording is floating point with some gain, and its own peak is its full scale.
    """
    peak = np.abs(samples).max() if samples.size else 0.0
    if peak > MAX_OVERSHOOT:
        samples = samples / peak
    high = np.abs(samples) >= FULL_SCALE
    if np.count_nonzero(high) < CLIPPED_RUN:
        return 0.0
    held = (
        high[1:]
        & high[:-1]
        & (
            (np.abs(np.diff(samples)) < FLAT_STEP)
            | (np.minimum(np.abs(samples[1:]), np.abs(samples[:-1])) > 1.0)
        )
    )
    edges = np.flatnonzero(np.diff(np.concatenate(([False], held, [False])).astype(np.int8)))
    runs = edges[1::2] - edges[::2] + 1
    return float(runs[runs >= CLIPPED_RUN].sum() / samples.size)


def _snr_db(power: np.ndarray) -> float:
    """Power (frame,) -> frames in the louder half of the range of levels against the quietest tenth, in dB."""
    noise, loud = np.maximum(np.percentile(power, (10, 95)), 1e-15)
    active = power[power >= np.sqrt(noise * loud)]
    speech = float(active.mean()) - noise if active.size else 0.0
    low, high = SNR_RANGE_DB
    return float(np.clip(10 * np.log10(max(speech, 1e-15) / noise), low, high)) if power.size > 2 else 0.0


@lru_cache(maxsize=16)
def _window(length: int) -> np.ndarray:
    return np.kaiser(length, 12.0).astype(np.float32)  # so that loud hum does not leak into the speech band


def _bandwidth_hz(samples: np.ndarray, sample_rate_hz: int) -> float:
    """Highest frequency of the mean spectrum that is within 60 dB of the strongest one."""
    length = max(16, round(FFT_S * sample_rate_hz))
    if samples.size < length:
        samples = np.pad(samples, (0, length - samples.size))
    frames = samples[: samples.size // length * length].reshape(-1, length)
    spectrum = np.zeros(length // 2 + 1)
    for start in range(0, len(frames), FFT_BLOCK):
        bins = np.fft.rfft(frames[start : start + FFT_BLOCK] * _window(length), axis=1)
        spectrum += (bins.real**2 + bins.imag**2).sum(axis=0)
    hz = np.fft.rfftfreq(length, 1 / sample_rate_hz)
    voiced = hz >= min(BAND_FROM_HZ, sample_rate_hz / 4)
    level = max(float(spectrum[voiced].max()), float(spectrum.max()) * 1e-4) * 10 ** (BAND_DB / 10)
    return float(hz[np.flatnonzero(spectrum >= level).max()]) if level > 0 else 0.0
