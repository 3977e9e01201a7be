"""What is stored of a recording: (time,) samples to frames of log-mels or of samples, on the samples' device."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
import torchaudio

FLOOR = 1e-8  # -80 dB under full scale; digital silence becomes log(FLOOR), never -inf


@dataclass(frozen=True)
class FeatureConfig:
    """What must be the same in training and in use."""

    sample_rate_hz: int = 16000
    mels: int = 64
    window_ms: float = 25.0
    hop_ms: float = 10.0
    kind: Literal["mel", "waveform"] = (
        "mel"  # `waveform`: a frame is `hop` samples, for encoders that have their own
    )

    @property
    def width(self) -> int:
        """Numbers in a frame."""
        return self.mels if self.kind == "mel" else self.hop

    @property
    def hop(self) -> int:
        return round(self.sample_rate_hz * self.hop_ms / 1000)

    @property
    def window(self) -> int:
        return round(self.sample_rate_hz * self.window_ms / 1000)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class LogMel(torch.nn.Module):
    """Natural logarithm of mel-band power, HTK mel scale, 60 Hz to half the sample rate."""

    bands: torch.Tensor
    taper: torch.Tensor

    def __init__(self, config: FeatureConfig):
        super().__init__()
        self.config = config
        self.fft = 1 << (config.window - 1).bit_length()
        bands = torchaudio.functional.melscale_fbanks(
            self.fft // 2 + 1, 60.0, config.sample_rate_hz / 2, config.mels, config.sample_rate_hz
        )
        window = torch.hann_window(config.window)
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("taper", window / window.square().sum().sqrt(), persistent=False)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """(time,) or (batch, time) samples to (frames, mels) or (batch, frames, mels)."""
        if samples.shape[-1] < self.config.window:
            samples = torch.nn.functional.pad(samples, (0, self.config.window - samples.shape[-1]))
        return self.of_frames(torch.nn.functional.pad(samples, (self.fft // 2, self.fft // 2)))

    def of_frames(self, samples: torch.Tensor) -> torch.Tensor:
        """As `forward`, of windows that lie wholly inside (..., time): (time - fft) // hop + 1 frames."""
        spectrum = torch.stft(
            samples, self.fft, self.config.hop, self.config.window, self.taper,
            center=False, return_complex=True,
        )  # fmt: skip
        power = spectrum.real.square() + spectrum.imag.square()
        return (power.transpose(-1, -2) @ self.bands).clamp_min(FLOOR).log()


class Waveform(torch.nn.Module):
    """The samples themselves, `hop` of them a frame; the last frame is filled up with zeros."""

    def __init__(self, config: FeatureConfig):
        super().__init__()
        self.config = config

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """(time,) or (batch, time) samples to (frames, hop) or (batch, frames, hop)."""
        missing = -samples.shape[-1] % self.config.hop
        return torch.nn.functional.pad(samples, (0, missing)).unflatten(-1, (-1, self.config.hop))


Transform = LogMel | Waveform


def make_transform(config: FeatureConfig) -> Transform:
    return LogMel(config) if config.kind == "mel" else Waveform(config)


def extract(samples: np.ndarray, transform: Transform) -> torch.Tensor:
    """One recording (time,) at the transform's rate to its features (frames, width)."""
    with torch.inference_mode():
        return transform(torch.from_numpy(samples))
