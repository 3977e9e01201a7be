"""The encoder of a Whisper model, frozen, and beside it perhaps a small trained stem (`features.kind: whisper`).

The states of its first `layers` layers distinguish the words of languages that it was never taught. The frozen weights are those of the base model and are not part of this network: its files, deltas and
optimizers hold the trained weights only, and `attach` brings in the base.
"""

from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F

from metavox.config import EncoderConfig, FeatureConfig
from metavox.errors import UserError
from metavox.recognisers import whisper
from metavox.recognisers.conformer.encoders.base import Encoder
from metavox.recognisers.conformer.encoders.conformer import Stem
from metavox.recognisers.conformer.frames import frame_mask, halve
from metavox.recognisers.conformer.frontend import FrontEnd
from metavox.recognisers.registry import own_digest

NEPERS_PER_DECADE = 2.302585
RANGE, OFFSET, SCALE = 8.0, 4.0, 4.0  # of Whisper's log-mels, in decades
STEP, PADDING = (
    50,
    50,
)  # frames: contexts are multiples of half a second, and at least that much longer than the clip


class Frozen:
    """A network that is shared by all copies and never trained, hence invisible to `parameters` and `state_dict`."""

    def __init__(self, network: whisper.Encoder):
        self.network = network

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def on(self, device: torch.device) -> whisper.Encoder:
        if self.network.conv1.weight.device != device:
            self.network.to(device)
        return self.network


class WhisperEncoder(Encoder):
    """Acoustic frames are the frozen states, in pairs, beside the stem's frames; context frames are projected from them.

    `config.dim` is the width of the Whisper model; with 0 `config.channels` there is no stem. `base` holds the digest of the base model once one is attached. A
    clip is padded with silence to a context that only its own length determines. Raises UserError for features that are
    not Whisper's log-mels.
    """

    base: torch.Tensor

    def __init__(self, config: EncoderConfig, frontend: FrontEnd, features: FeatureConfig):
        super().__init__()
        if features.kind != "whisper" or (features.sample_rate_hz, features.window, features.hop) != (
            whisper.SAMPLE_RATE_HZ,
            whisper.WINDOW,
            whisper.HOP,
        ):
            raise UserError(
                f"encoder.kind whisper: features are {features.kind} at {features.sample_rate_hz} Hz, {features.window_s:g} s "
                f"every {features.hop_s:g} s; expected features.kind whisper, 16000 Hz, window_s 0.025, hop_s 0.01"
            )
        self.config, self.frontend = config, frontend
        self.stem = Stem(config, frontend.channels) if config.channels else None
        stem_dim = config.channels * frontend.bands // 4
        self.stem_norm = nn.LayerNorm(stem_dim)
        self.acoustic_dim, self.dim = config.dim + stem_dim, config.dim
        self.project = nn.Sequential(nn.Linear(self.acoustic_dim, config.dim), nn.GELU())
        self.register_buffer("base", torch.zeros(32, dtype=torch.uint8))
        self._frozen: Frozen | None = None

    def attach(self, folder: Path) -> None:
        """Use the encoder of the Whisper model in `folder`, which must be the one this network was trained on.

        Raises UserError for another model.
        """
        digest = own_digest(folder)
        if self.base.any() and bytes(self.base.tolist()).hex() != digest:
            raise UserError(
                f"{folder}: its digest is {digest[:12]}, but these words were learned on the encoder of the base "
                f"{bytes(self.base.tolist()).hex()[:12]}; keep both in the folder they came in"
            )
        network = whisper.load_encoder(folder, self.config.layers)
        shape = (network.conv1.in_channels, network.conv1.out_channels)
        if shape != (self.frontend.bands, self.dim):
            raise UserError(
                f"{folder}: its encoder has {shape[0]} mel bands and {shape[1]} dimensions; set features.mels and "
                "encoder.dim to these numbers"
            )
        self._frozen = Frozen(network)
        self.base.copy_(torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8))

    def share_base(self, other: Encoder) -> None:
        assert isinstance(other, WhisperEncoder)
        self._frozen = other._frozen
        self.base.copy_(other.base)

    def acoustic(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        counts = halve(halve(lengths))
        frames = int(halve(halve(torch.tensor(features.shape[1]))))
        out = self._states(features.detach(), lengths, frames)
        out = F.dropout1d(out.transpose(1, 2), self.config.dropout, self.training).transpose(1, 2)
        if self.stem is not None:
            stem, _ = self.stem(self.frontend(features, lengths), lengths)
            out = torch.cat([out.to(stem.dtype), self.stem_norm(stem)], dim=2)
        return out * frame_mask(counts, frames).unsqueeze(2), counts

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.context(*self.acoustic(features, lengths))

    def context(self, acoustic: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Acoustic frames (batch, frames, acoustic_dim) -> context frames (batch, frames, dim)."""
        return self.project(acoustic), lengths

    def both(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        acoustic = self.acoustic(features, lengths)
        return acoustic, self.context(*acoustic)

    @torch.no_grad()
    def _states(self, mels: torch.Tensor, lengths: torch.Tensor, frames: int) -> torch.Tensor:
        """Normalised states of the frozen encoder, the mean of each pair: (batch, frames, dim)."""
        if self._frozen is None:
            raise UserError("this network has no base; load it from the folder of its base model")
        encoder = self._frozen.on(mels.device)
        out = mels.new_zeros(len(mels), frames, self.dim)
        contexts = ((lengths + PADDING + STEP - 1) // STEP * STEP).clamp_max(
            2 * encoder.embed_positions.num_embeddings
        )
        for context in contexts.unique().tolist():
            rows = (contexts == context).nonzero()[:, 0]
            hidden = encoder.hidden(_scaled(mels[rows], lengths[rows], context).transpose(1, 2))
            states = F.layer_norm(hidden.float(), hidden.shape[-1:])
            inside = frame_mask(halve(lengths[rows]), states.shape[1]).unsqueeze(2)
            states = F.pad(states * inside, (0, 0, 0, states.shape[1] % 2)).unflatten(1, (-1, 2)).sum(2)
            inside = F.pad(inside, (0, 0, 0, inside.shape[1] % 2)).unflatten(1, (-1, 2)).sum(2)
            states = (states / inside.clamp_min(1))[:, :frames]
            out[rows, : states.shape[1]] = states
        return out


def _scaled(mels: torch.Tensor, lengths: torch.Tensor, context: int) -> torch.Tensor:
    """Natural log-mels (batch, time, band) in Whisper's scale, padded with silence to `context` frames.

    At most 8 decades below the clip's loudest point are kept: (x + 4) / 4.
    """
    decades = mels[:, :context] / NEPERS_PER_DECADE
    decades = F.pad(decades, (0, 0, 0, context - decades.shape[1]))
    inside = frame_mask(lengths, context).unsqueeze(2)
    loudest = decades.masked_fill(~inside, -torch.inf).amax(dim=(1, 2), keepdim=True)
    silence = torch.where(loudest.isfinite(), loudest, loudest.new_zeros(())) - RANGE
    return (torch.maximum(torch.where(inside, decades, silence), silence) + OFFSET) / SCALE
