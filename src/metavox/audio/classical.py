"""Perturbs samples with standard libraries: noise, rooms, codecs, bandwidth, level, speed, masks.

Functions take samples (time,) float32, their rate in Hz and a numpy generator, and return samples of the same
length (except `speed`). They are the reference for `audio.perturb`, which works on log-mels in a hundredth of
the time.

scipy.signal is imported inside functions: it takes a second to load, and most commands import this module
without calling them.
"""

import io
from typing import Literal

import numpy as np
import soundfile
import torch
import torchaudio.functional as F
import torchaudio.transforms as T

Codec = Literal["gsm", "ulaw", "alaw", "mp3", "vorbis", "opus", "g721", "adpcm"]
VOCODER = 512  # samples in a window of the phase vocoder
SILENT = 1e-5  # root mean square, below which there is no signal to add noise to
# Container, subtype, and the codec's own rate in Hz (None: any).
CODECS: dict[Codec, tuple[str, str, int | None]] = {
    "gsm": ("WAV", "GSM610", 8000),
    "ulaw": ("WAV", "ULAW", 8000),
    "alaw": ("WAV", "ALAW", 8000),
    "mp3": ("MP3", "MPEG_LAYER_III", None),
    "vorbis": ("OGG", "VORBIS", None),
    "opus": ("OGG", "OPUS", None),
    "g721": ("AU", "G721_32", 8000),
    "adpcm": ("WAV", "IMA_ADPCM", 8000),
}


def noise(samples: np.ndarray, other: np.ndarray, snr_db: float) -> np.ndarray:
    """Add `other`, repeated or cut to fit, at a signal-to-noise ratio (torchaudio's add_noise)."""
    if _level(samples) < SILENT or _level(other) < SILENT:
        return samples
    repeated = np.resize(other, len(samples)).astype(np.float32)
    return F.add_noise(*map(torch.from_numpy, (samples, repeated)), torch.tensor(float(snr_db))).numpy()


def coloured(length: int, slope_db: float, rate: int, random: np.random.Generator) -> np.ndarray:
    """Gaussian noise (length,) whose power falls by `slope_db` per octave: 0 is white, 3 pink, 6 brown."""
    spectrum = np.fft.rfft(random.normal(size=length))
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / rate), 20.0)
    shaped = np.fft.irfft(spectrum * (frequency / 1000.0) ** (-slope_db / 6.02), length)
    return (shaped / max(float(np.std(shaped)), 1e-12)).astype(np.float32)


def room(t60_s: float, rate: int, random: np.random.Generator, direct_db: float = 0.0) -> np.ndarray:
    """A room's impulse response (time,): the direct sound, then noise that decays by 60 dB in `t60_s` (Polack
    1988).

    `direct_db` is the power of the direct sound over that of the tail.
    """
    time = np.arange(round(1.2 * t60_s * rate)) / rate
    tail = random.normal(size=len(time)) * 10 ** (-3 * time / t60_s)
    tail[: round(0.002 * rate)] = 0.0
    response = tail / max(np.sqrt(np.sum(tail**2)), 1e-12) * 10 ** (-direct_db / 20)
    response[0] = 1.0
    return response.astype(np.float32)


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve samples with a room's response; the level stays the same."""
    from scipy.signal import fftconvolve

    wet = fftconvolve(samples, response)[: len(samples)]
    level = np.sqrt(np.mean(wet**2)) if len(wet) else 0.0
    return (wet * (_level(samples) / level if level > SILENT else 1.0)).astype(np.float32)


def coded(samples: np.ndarray, rate: int, codec: Codec, quality: float = 0.9) -> np.ndarray:
    """Encode and decode samples with a real codec (libsndfile's). `quality` is its compression level; 1
    compresses most.

    Raises ValueError for an unknown codec.
    """
    if codec not in CODECS:
        raise ValueError(f"codec {codec!r}: unknown; expected one of {', '.join(CODECS)}")
    container, subtype, fixed_rate = CODECS[codec]
    codec_rate = fixed_rate or rate
    source = np.clip(resampled(samples, rate, codec_rate), -1.0, 1.0)
    file = io.BytesIO()
    level = {} if container in ("WAV", "AU") else {"compression_level": quality}
    soundfile.write(file, source, codec_rate, format=container, subtype=subtype, **level)
    file.seek(0)
    decoded, decoded_rate = soundfile.read(file, dtype="float32")
    return _aligned(resampled(decoded, decoded_rate, rate), samples)


def bandwidth(samples: np.ndarray, rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Band-pass filter samples (Butterworth, fourth order)."""
    from scipy.signal import butter, sosfilt

    high = min(high_hz, 0.49 * rate)
    sections = butter(4, (low_hz, high), "bandpass", fs=rate, output="sos")
    return sosfilt(sections, samples).astype(np.float32)


def clipped(samples: np.ndarray, share: float) -> np.ndarray:
    """Clip the loudest `share` of the samples, as an overdriven amplifier does."""
    if not len(samples):
        return samples
    limit = float(np.quantile(np.abs(samples), 1 - share))
    return np.clip(samples, -limit, limit) if limit > 0 else samples


def speed(samples: np.ndarray, rate: int, factor: float) -> np.ndarray:
    """Play samples `factor` times as fast, which changes the pitch too (Ko et al. 2015)."""
    return resampled(samples, round(rate * factor), rate)


def voice_changed(samples: np.ndarray, rate: int, warp: float, tempo: float) -> np.ndarray:
    """Scale the frequencies of samples (time,) by `warp`, as a shorter vocal tract does, and speak `tempo` times as fast.

    Resampling moves pitch and formants; a phase vocoder (Flanagan & Golden 1966) then restores or changes the duration.
    """
    moved = torch.from_numpy(speed(samples, rate, warp))
    window = torch.hann_window(VOCODER)
    spectrum = torch.stft(moved, VOCODER, VOCODER // 4, window=window, return_complex=True)
    advance = torch.linspace(0, np.pi * VOCODER / 4, VOCODER // 2 + 1)[:, None]
    stretched = F.phase_vocoder(spectrum, tempo / warp, advance)
    return torch.istft(stretched, VOCODER, VOCODER // 4, window=window).numpy()


def masked(mels: torch.Tensor, bands: int, frames: int) -> torch.Tensor:
    """SpecAugment (Park et al. 2019) by torchaudio: one mask per axis of log-mels (batch, time, mel), drawn
    from the global generator.
    """
    spectrum = mels.transpose(1, 2)
    quiet = float(mels.min())
    out = T.TimeMasking(frames, iid_masks=True)(
        T.FrequencyMasking(bands, iid_masks=True)(spectrum.unsqueeze(1), quiet), quiet
    )
    return out.squeeze(1).transpose(1, 2)


def resampled(samples: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Resample samples (time,) from `rate` to `target_rate` with scipy's polyphase filter."""
    if rate == target_rate or not len(samples):
        return samples.astype(np.float32)
    from scipy.signal import resample_poly

    common = int(np.gcd(rate, target_rate))
    return resample_poly(samples, target_rate // common, rate // common).astype(np.float32)


def _aligned(delayed: np.ndarray, reference: np.ndarray, max_delay: int = 4000) -> np.ndarray:
    """Remove a codec's delay by the best correlation with `reference`, and fit its length."""
    if not len(delayed) or _level(delayed) < SILENT:
        return np.zeros_like(reference)
    from scipy.signal import correlate

    match = correlate(delayed, reference, method="fft")
    centre = len(reference) - 1
    near = match[max(0, centre - max_delay) : centre + max_delay + 1]
    delay = int(np.argmax(near)) - min(centre, max_delay)
    shifted = delayed[delay:] if delay >= 0 else np.concatenate([np.zeros(-delay, np.float32), delayed])
    return np.pad(shifted, (0, max(0, len(reference) - len(shifted))))[: len(reference)].astype(np.float32)


def _level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
