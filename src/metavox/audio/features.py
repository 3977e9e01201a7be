"""Stored features: samples (time,) to frames of log-mels or of samples, on the samples' device.

Behind its log-mels a frame holds the columns of `extras`: what log-mels do not show, such as pitch.
"""

import numpy as np
import torch

from metavox.audio.formants import Formants
from metavox.audio.framing import FLOOR, Framed, check_samples
from metavox.audio.prosody import Prosody
from metavox.config import FeatureConfig

EXTRAS: dict[str, type[Prosody] | type[Formants]] = {"prosody": Prosody, "formants": Formants}
LOWEST_HZ = 60.0


class LogMel(Framed):
    """Natural logarithm of mel-band power, on the HTK mel scale from 60 Hz to half the sample rate.

    Processors differ in the last bits of what they compute. For results that are the same on all of them, use
    a transform in double precision (`.double()`, with samples in double precision) and round: the bands are
    the same.
    """

    bands: torch.Tensor
    taper: torch.Tensor

    def __init__(self, config: FeatureConfig):
        super().__init__()
        self.config = config
        self.hop, self.width, self.least = config.hop, config.mels, config.window
        self.span = self.fft = 1 << (config.window - 1).bit_length()
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window) / config.window)
        taper = hann / np.sqrt(np.square(hann).sum())
        self.register_buffer("bands", torch.from_numpy(mel_bands(config, self.fft)).float(), persistent=False)
        self.register_buffer("taper", torch.from_numpy(taper).float(), persistent=False)

    def of_frames(self, samples: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(
            samples,
            self.fft,
            self.config.hop,
            self.config.window,
            self.taper,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return (power.transpose(-1, -2) @ self.bands).clamp_min(FLOOR).log()


def mel_bands(config: FeatureConfig, fft: int) -> np.ndarray:
    """Triangular filters (fft / 2 + 1, mels) over the bins of a transform of `fft` samples, in float64."""
    highest_hz = config.sample_rate_hz / 2
    low, high = 2595 * np.log10(1 + np.array([LOWEST_HZ, highest_hz]) / 700)
    corners_hz = 700 * (10 ** (np.linspace(low, high, config.mels + 2) / 2595) - 1)
    hz = np.linspace(0, highest_hz, fft // 2 + 1)[:, None]
    below, middle, above = corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]
    return np.clip(np.minimum((hz - below) / (middle - below), (above - hz) / (above - middle)), 0, None)


class WhisperLogMel(LogMel):
    """As `LogMel`, in Whisper's mel bands (Radford et al. 2022, section 2.2): Slaney's, from 0 Hz to half the sample rate.

    They are Whisper's log-mels before it limits and scales them, which needs the whole clip.
    """

    def __init__(self, config: FeatureConfig):
        super().__init__(config)
        self.span = self.fft = config.window
        self.bands = slaney_bands(config.mels, self.fft, config.sample_rate_hz)
        self.taper = torch.hann_window(config.window)


def slaney_bands(mels: int, fft: int, sample_rate_hz: int) -> torch.Tensor:
    """Slaney's mel filters (fft / 2 + 1, mels) of equal area over the bins of a transform of `fft` samples."""
    from torchaudio.functional import melscale_fbanks  # imported on demand: it takes half a second

    return melscale_fbanks(  # type: ignore[no-any-return]
        fft // 2 + 1, 0.0, sample_rate_hz / 2, mels, sample_rate_hz, norm="slaney", mel_scale="slaney"
    )


class WithExtras(Framed):
    """Log-mels followed by the columns of `config.extras`; all windows of a frame share one centre."""

    def __init__(self, config: FeatureConfig):
        super().__init__()
        self.config = config
        self.hop, self.width, self.least = config.hop, config.width, config.window
        extras = (EXTRAS[name](config.sample_rate_hz, config.hop) for name in config.extras)
        self.transforms = torch.nn.ModuleList([LogMel(config), *extras])
        self.span = max(transform.span for transform in self._framed())

    def of_frames(self, samples: torch.Tensor) -> torch.Tensor:
        columns = []
        for transform in self._framed():
            margin = (self.span - transform.span) // 2
            columns.append(transform.of_frames(samples[..., margin : samples.shape[-1] - margin]))
        return torch.cat(columns, dim=-1)

    def _framed(self) -> list[Framed]:
        return [transform for transform in self.transforms if isinstance(transform, Framed)]


class Waveform(torch.nn.Module):
    """The samples themselves, `hop` per frame; the last frame is padded with zeros."""

    def __init__(self, config: FeatureConfig):
        super().__init__()
        self.config = config

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """(time,) or (batch, time) samples to (frames, hop) or (batch, frames, hop)."""
        missing = -samples.shape[-1] % self.config.hop
        return torch.nn.functional.pad(samples, (0, missing)).unflatten(-1, (-1, self.config.hop))


Transform = LogMel | WithExtras | Waveform


def make_transform(config: FeatureConfig) -> Transform:
    if config.kind == "waveform":
        return Waveform(config)
    if config.kind == "whisper":
        return WhisperLogMel(config)
    return WithExtras(config) if config.extras else LogMel(config)


def extract(samples: np.ndarray, transform: Transform) -> torch.Tensor:
    """One recording (time,) at the transform's rate -> its features (frames, width).

    Raises UserError for samples that are not finite or far beyond full scale.
    """
    check_samples(torch.from_numpy(samples))
    with torch.inference_mode():
        return transform(torch.from_numpy(samples))
