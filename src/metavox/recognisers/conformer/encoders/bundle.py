"""Any wav2vec 2.0, HuBERT or WavLM of `torchaudio.pipelines`, on samples (`features.kind: waveform`).

The architecture is the bundle's own; `overrides` replaces some of its parameters under their torchaudio
names, such as `encoder_num_layers: 6` for the lower half. See `load_weights` for the weights.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torchaudio import pipelines
from torchaudio.models import wav2vec2_model, wavlm_model

from metavox.config import EncoderConfig, FeatureConfig
from metavox.errors import UserError
from metavox.recognisers.conformer.encoders.base import Encoder

RECEPTIVE_FIELD = 400  # samples that the first frame sees
STRIDE = 320
HUB = "hub"


def bundles() -> list[str]:
    """Names of the available bundles."""
    return sorted(
        name for name in dir(pipelines) if isinstance(getattr(pipelines, name), pipelines.Wav2Vec2Bundle)
    )


class BundleEncoder(Encoder):
    """Acoustic frames come from the middle layer, which distinguishes words best, context frames from the
    last.

    Group normalisation in the first convolution (of the base models) includes padding, so those models
    process one item at a time. Raises UserError for an unknown bundle and for features that are not samples.
    """

    subsampling = 2

    def __init__(self, config: EncoderConfig, features: FeatureConfig):
        super().__init__()
        if features.kind != "waveform" or features.sample_rate_hz != 16000 or features.hop * 2 != STRIDE:
            raise UserError(
                f"encoder.bundle {config.bundle}: features are {features.kind} at {features.sample_rate_hz} Hz every "
                f"{features.hop_s:g} s; expected features.kind waveform, 16000 Hz, hop_s 0.01"
            )
        if config.bundle not in bundles():
            raise UserError(
                f"encoder.bundle {config.bundle!r}: unknown; expected one of {', '.join(bundles())}"
            )
        bundle = getattr(pipelines, config.bundle)
        self.config = config
        params: dict[str, Any] = {**bundle._params, "aux_num_out": None, **config.overrides}
        self.model = (wavlm_model if bundle._model_type == "WavLM" else wav2vec2_model)(**params)
        self.normalise_samples = bool(bundle._normalize_waveform)
        self.one_at_a_time = params["extractor_mode"] == "group_norm"
        self.acoustic_dim = self.dim = int(params["encoder_embed_dim"])
        self.layers = int(params["encoder_num_layers"])

    def acoustic(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._layer(features, lengths, (self.layers + 1) // 2)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._layer(features, lengths, self.layers)

    def _layer(
        self, features: torch.Tensor, lengths: torch.Tensor, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        samples, counts = features.flatten(1), lengths * features.shape[2]
        samples = F.pad(samples, (0, max(0, RECEPTIVE_FIELD - samples.shape[1])))
        counts = counts.clamp_min(RECEPTIVE_FIELD)
        samples = samples * (torch.arange(samples.shape[1], device=samples.device) < counts[:, None])
        if self.normalise_samples:
            samples = _standardise(samples, counts)
        if self.one_at_a_time:
            outputs = [
                self.model.extract_features(row[None, :count], None, layer)[0][-1].squeeze(0)
                for row, count in zip(samples, counts.tolist(), strict=True)
            ]
            out = nn.utils.rnn.pad_sequence(outputs, batch_first=True)
        else:
            out = self.model.extract_features(samples, counts, layer)[0][-1]
        frames = (counts - RECEPTIVE_FIELD) // STRIDE + 1
        inside = torch.arange(out.shape[1], device=out.device) < frames[:, None]
        return out * inside.unsqueeze(2), frames


def load_weights(encoder: Encoder, source: str) -> None:
    """Load a bundle's weights from a local file (safetensors, or torchaudio's .pth without pickle) or from
    the hub.

    An artifact contains the encoder's weights, so loading one never downloads anything. Raises UserError if
    the file does not exist or does not match.
    """
    if not isinstance(encoder, BundleEncoder):
        raise UserError(f"encoder.weights {source}: only kind bundle takes weights; leave it empty")
    try:
        weights = _from_hub(encoder) if source == HUB else _from_file(Path(source))
        weights = {
            k.removeprefix("model."): v
            for k, v in weights.items()
            if not k.removeprefix("model.").startswith("aux.")
        }
        encoder.model.load_state_dict(weights)
    except (
        OSError,
        EOFError,
        SafetensorError,
        UnpicklingError,
        RuntimeError,
        ValueError,
        TypeError,
    ) as error:
        reason = (str(error).strip().splitlines() or ["it is empty"])[-1].strip()[:200]
        raise UserError(
            f"encoder.weights {source}: cannot be used for {encoder.config.bundle} ({reason}); expected that bundle's "
            f"weights as .safetensors or .pth, or `{HUB}`"
        ) from error


def _from_file(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def _from_hub(encoder: BundleEncoder) -> dict[str, torch.Tensor]:
    bundle = getattr(pipelines, encoder.config.bundle)
    return dict(bundle._get_state_dict({"progress": False}))


def _standardise(samples: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over each item's own samples."""
    inside = torch.arange(samples.shape[1], device=samples.device) < counts[:, None]
    mean = samples.sum(dim=1, keepdim=True) / counts[:, None]
    centred = (samples - mean) * inside
    return centred / (centred.square().sum(dim=1, keepdim=True) / counts[:, None] + 1e-5).sqrt()
