"""The network: an encoder, a word embedding for few-shot learning, and characters by CTC."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from metavox.config import EncoderConfig, FeatureConfig, FrontEndConfig, read
from metavox.errors import UserError
from metavox.recognisers.conformer.cohort import Cohort
from metavox.recognisers.conformer.encoders import make_encoder
from metavox.recognisers.conformer.frames import frame_mask
from metavox.recognisers.conformer.tokenizer import BLANK, Tokenizer
from metavox.recognisers.delta import OutputRows
from metavox.recognisers.lora import ExtensibleNetwork


@dataclass(frozen=True)
class ModelConfig:
    """Everything that must be rolled back together. `cohort` is the number of stored cohort embeddings, and
    `word_margin_s` the silence that stays on each side of a word when it is embedded."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    alphabet: str = " 'abcdefghijklmnopqrstuvwxyz"
    frontend: FrontEndConfig = field(default_factory=FrontEndConfig)
    cohort: int = 0
    word_margin_s: float = 0.0

    @property
    def word_margin(self) -> int:
        """`word_margin_s` in frames."""
        return round(self.word_margin_s / self.features.hop_s)

    @property
    def embedding(self) -> int:
        """Dimensions of a word embedding."""
        return self.encoder.embedding

    def as_dict(self) -> dict[str, Any]:
        """The configuration for JSON, without the local path of the encoder's initial weights."""
        return asdict(replace(self, encoder=replace(self.encoder, weights="")))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Read a configuration; older artifacts have `embedding`, `places` and `background` at the top level."""
        renamed = {"embedding": "embedding", "places": "position_features"}
        encoder = values["encoder"] | {new: values[old] for old, new in renamed.items() if old in values}
        return cls(
            read(FeatureConfig, values["features"]),
            read(EncoderConfig, encoder),
            values["alphabet"],
            read(FrontEndConfig, values.get("frontend", {})),
            values.get("cohort", values.get("background", 0)),
            values.get("word_margin_s", 0.0),
        )


class WordEmbedding(nn.Module):
    """Attentive statistics pooling (Okabe et al. 2018) with several attention heads, then a unit vector.

    A head attends by a frame's content and, with `position_features`, by its position in the word, because
    pooling alone does not see the order of sounds. The position is the share of the speech so far, weighted
    by a learned gate that ignores silence. The normalisation before the unit vector removes what all words
    share; without it the cosines of all pairs start near one and training hardly progresses.
    """

    def __init__(self, dim: int, embedding: int, heads: int = 4, position_features: int = 0):
        super().__init__()
        self.position_features = position_features
        self.attention = nn.Sequential(
            nn.Linear(dim + position_features, 64), nn.Tanh(), nn.Linear(64, heads)
        )
        if position_features:
            self.speech = nn.Linear(dim, 1)
        self.project = nn.Linear(2 * dim * heads, embedding)
        self.centre = nn.BatchNorm1d(embedding, affine=False)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, frames, dim), mask (batch, frames) -> unit vectors (batch, embedding), in at least single
        precision.
        """
        with torch.autocast(frames.device.type, enabled=False):
            return self._pool(_single_precision(frames), mask)

    def _pool(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        features = (
            torch.cat([frames, self._positions(frames, mask)], dim=2) if self.position_features else frames
        )
        scores = self.attention(features).masked_fill(~mask.unsqueeze(2), -torch.inf)
        weights = scores.softmax(dim=1).transpose(1, 2)
        mean = weights @ frames
        spread = (weights @ frames.square() - mean.square()).clamp_min(1e-5).sqrt()
        return F.normalize(self.centre(self.project(torch.cat([mean, spread], dim=2).flatten(1))), dim=1)

    def _positions(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Position features (batch, frames, position_features): cosines of the share of the speech before
        each frame.
        """
        speech = self.speech(frames).sigmoid().squeeze(2) * mask
        share = (speech.cumsum(dim=1) - 0.5 * speech) / speech.sum(dim=1, keepdim=True).clamp_min(1e-3)
        orders = torch.arange(1, self.position_features + 1, device=frames.device)
        return torch.cos(math.pi * orders * share.unsqueeze(2))


class Network(ExtensibleNetwork):
    """The conformer's network: log-mels in, unit word embeddings and character log-probabilities out."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config.alphabet)
        self.encoder = make_encoder(config.encoder, config.frontend, config.features)
        self.word = WordEmbedding(
            self.encoder.acoustic_dim, config.embedding, position_features=config.encoder.position_features
        )
        self.ctc = nn.Linear(self.encoder.dim, len(self.tokenizer))
        self.more_characters: nn.Linear | None = None
        self.cohort = Cohort(config.cohort, config.embedding) if config.cohort else None

    def untrained(self) -> "Network":
        """A network of the same configuration with random weights, in evaluation mode; a frozen base is shared."""
        other = Network(self.config).eval()
        other.encoder.share_base(self.encoder)
        return other

    def embed(
        self, mels: torch.Tensor, lengths: torch.Tensor, *, word: WordEmbedding | None = None
    ) -> torch.Tensor:
        """Log-mels (batch, time, mel), lengths (batch,) -> unit word embeddings (batch, embedding).

        `word` replaces the model's own word embedding.
        """
        return self.pool(*self.encoder.acoustic(mels, lengths), word=word)

    def pool(
        self, frames: torch.Tensor, lengths: torch.Tensor, *, word: WordEmbedding | None = None
    ) -> torch.Tensor:
        """Acoustic frames (batch, frames, acoustic_dim), lengths (batch,) -> unit word embeddings (batch, embedding)."""
        embedded = (word or self.word)(frames, frame_mask(lengths, frames.shape[1]))
        return self.cohort(embedded) if self.cohort is not None else embedded

    def characters(self, mels: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels (batch, time, mel), lengths (batch,) -> character log-probabilities (batch, time /
        subsampling, alphabet) and their lengths (batch,).
        """
        frames, frame_lengths = self.encoder(mels, lengths)
        return self.spell(frames), frame_lengths

    def spell(self, frames: torch.Tensor) -> torch.Tensor:
        """Context frames (batch, frames, dim) -> character log-probabilities (batch, frames, alphabet)."""
        logits = _single_precision(self.ctc(frames))
        if self.more_characters is not None:
            logits = torch.cat([logits, _single_precision(self.more_characters(frames))], dim=2)
        return logits.log_softmax(dim=2)

    def start_from(self, other: "Network") -> None:
        """Copy the weights of `other` in place; of its head, the rows of characters that both have.

        Raises UserError for a network of another architecture.
        """
        for name, ours in _shape_parameters(self.config).items():
            if ours != (theirs := _shape_parameters(other.config).get(name)):
                raise UserError(
                    f"{name} is {ours}, but {theirs} in the model to start from; set the same value, or start from no model"
                )
        self.encoder.load_state_dict(other.encoder.state_dict())
        self.word.load_state_dict(other.word.state_dict())
        their_ids = {character: i for i, character in enumerate(other.tokenizer.alphabet, start=1)}
        rows = [(i, their_ids[c]) for i, c in enumerate(self.tokenizer.alphabet, start=1) if c in their_ids]
        our_rows, their_rows = (list(column) for column in zip((BLANK, BLANK), *rows, strict=True))
        with torch.no_grad():
            self.ctc.weight[our_rows] = other.ctc.weight[their_rows]
            self.ctc.bias[our_rows] = other.ctc.bias[their_rows]

    def add_output_rows(self, rows: OutputRows) -> None:
        """Add characters that the alphabet lacks, with their rows of the head, in place.

        The ids of all others stay the same, and `config` keeps describing the base model without them. Raises
        UserError for rows of another width and for a character that is already there.
        """
        if rows.weight.shape[1] != self.encoder.dim:
            raise UserError(
                f"the delta has characters of {rows.weight.shape[1]} dimensions, which this model does not have; adapt again"
            )
        if both := set(self.tokenizer.alphabet) & set(rows.alphabet):
            raise UserError(
                f"two deltas add the character {min(both)!r}, which can have only one row; leave one out, or "
                "adapt once on the recordings of both"
            )
        old, weight, bias = self.more_characters, rows.weight, rows.bias
        if old is not None:
            weight, bias = torch.cat([old.weight, weight]), torch.cat([old.bias, bias])
        more = nn.Linear(self.encoder.dim, len(bias)).to(self.ctc.weight).requires_grad_(False)
        more.weight.copy_(weight)
        more.bias.copy_(bias)
        self.more_characters = more.train(self.training)
        self.tokenizer = Tokenizer(self.tokenizer.alphabet + rows.alphabet)

    def added_rows(self) -> nn.Linear | None:
        return self.more_characters


def _single_precision(x: torch.Tensor) -> torch.Tensor:
    """Sums and norms over many small terms need more precision than autocast's half floats have."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def pad(items: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad log-mels of different lengths to a batch (batch, time, mel) with lengths (batch,)."""
    lengths = torch.tensor([len(item) for item in items])
    return nn.utils.rnn.pad_sequence(items, batch_first=True), lengths


def _shape_parameters(config: ModelConfig) -> dict[str, object]:
    """The parameters that two networks must share to share weights, under dotted names."""
    parameters: dict[str, object] = {}
    for name in ("features", "frontend", "encoder"):
        parameters |= {f"{name}.{key}": value for key, value in asdict(getattr(config, name)).items()}
    for name in ("encoder.dropout", "encoder.weights"):
        del parameters[name]
    return parameters
