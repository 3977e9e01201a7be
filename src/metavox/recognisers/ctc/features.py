"""Inputs of the encoders: normalised samples, or log-mels in pairs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchaudio.compliance import kaldi

from metavox.errors import UserError
from metavox.recognisers.bases.files import read_json

MELS, STRIDE, FRAMES_A_SECOND = 80, 2, 100  # of w2v-BERT 2.0
SHORTEST_S = 0.1  # shorter clips are padded with silence, because convolutions need more than one frame


@dataclass(frozen=True)
class FeatureExtractor:
    """`mels` selects paired log-mels instead of samples; `normalise` scales samples to mean 0 and variance 1."""

    sample_rate_hz: int = 16000
    normalise: bool = True
    mels: bool = False

    @property
    def steps_a_second(self) -> float:
        """Rows of log-mels, or samples, per second."""
        return FRAMES_A_SECOND / STRIDE if self.mels else self.sample_rate_hz

    def steps(self, samples: int) -> int:
        """The number of steps that `inputs` makes of this number of samples."""
        padded = max(samples, self._shortest)
        rate = self.sample_rate_hz
        return (1 + (padded - rate // 40) // (rate // FRAMES_A_SECOND)) // STRIDE if self.mels else padded

    def inputs(self, samples: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Samples (time,) -> the encoder's input: samples (time,) or log-mels (frames, 160)."""
        values = torch.as_tensor(samples, dtype=torch.float32)
        values = torch.nn.functional.pad(values, (0, max(0, self._shortest - len(values))))
        if self.mels:
            return paired_log_mels(values, self.sample_rate_hz)
        if self.normalise:
            values = (values - values.mean()) / (values.var(correction=0) + 1e-7).sqrt()
        return values

    @property
    def _shortest(self) -> int:
        return int(SHORTEST_S * self.sample_rate_hz)


def paired_log_mels(samples: torch.Tensor, rate: int) -> torch.Tensor:
    """Samples (time,) in -1..1 -> (time / 20 ms, 160), as SeamlessM4T's extractor computes them (Barrault et
    al. 2023).

    Kaldi's log-mels of 16-bit samples, each bin scaled to mean 0 and variance 1 over time, two consecutive
    frames per row; an odd last frame is dropped.
    """
    mels = kaldi.fbank(
        samples[None] * 2**15,
        num_mel_bins=MELS,
        sample_frequency=rate,
        window_type="povey",
        dither=0.0,
        energy_floor=0.0,
    )
    mels = (mels - mels.mean(dim=0)) / (mels.var(dim=0) + 1e-7).sqrt()
    return mels[: len(mels) // STRIDE * STRIDE].reshape(-1, MELS * STRIDE)


def read_feature_extractor(folder: Path, mels: bool) -> FeatureExtractor:
    """Read `preprocessor_config.json`, or `processor_config.json` of newer folders; defaults apply if there
    is neither.

    Raises UserError for inputs that the encoder does not take.
    """
    values: dict[str, Any] = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            content = read_json(folder / name)
            values = content.get("feature_extractor", content if name.startswith("pre") else values)
    expected = MELS if mels else 1
    size = (
        values.get("num_mel_bins", values.get("feature_size", expected))
        if mels
        else values.get("feature_size", 1)
    )
    if size != expected or values.get("stride", STRIDE) != STRIDE:
        raise UserError(
            f"{folder}: the preprocessor gives {size} values per step, but this encoder takes {expected}; "
            "get the preprocessor_config.json that belongs to the model"
        )
    return FeatureExtractor(
        int(values.get("sampling_rate", 16000)), bool(values.get("do_normalize", True)), mels
    )
