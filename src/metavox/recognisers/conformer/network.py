"""The recogniser: one encoder, a word embedding for few examples, and characters by CTC."""

import math
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from metavox.audio.features import FeatureConfig
from metavox.errors import UserError
from metavox.recognisers.conformer.cohort import Background
from metavox.recognisers.conformer.encoders import EncoderConfig, make_encoder
from metavox.recognisers.conformer.frames import frame_mask
from metavox.recognisers.conformer.frontend import FrontEndConfig
from metavox.recognisers.conformer.tokenizer import BLANK, Tokenizer
from metavox.recognisers.delta import OutputRows
from metavox.recognisers.lora import Growing


@dataclass(frozen=True)
class ModelConfig:
    """All that must be rolled back together: features, encoder, embedding, alphabet, front end; and of how many
    embeddings the background is that comes with the weights."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    embedding: int = 192
    alphabet: str = " 'abcdefghijklmnopqrstuvwxyz"
    frontend: FrontEndConfig = field(default_factory=FrontEndConfig)
    places: int = 0  # of the word embedding
    background: int = 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"features": self.features.as_dict()}

    @classmethod
    def from_dict(cls, values: dict) -> "ModelConfig":
        return cls(
            FeatureConfig(**values["features"]),
            EncoderConfig(**values["encoder"]),
            values["embedding"],
            values["alphabet"],
            FrontEndConfig(**values.get("frontend", {})),
            values.get("places", 0),
            values.get("background", 0),
        )


class WordEmbedding(nn.Module):
    """Attentive statistics pooling (Okabe et al. 2018) over several attention heads, then a unit vector.

    A head attends by what a frame holds and, with `places`, by where in the word it lies: pooling alone would not
    know the order of sounds. The place is the share of the speech so far, by a learned gate that leaves silence out.
    The normalisation before the unit vector takes out what all words share; without it the cosines of all
    pairs start near one and training hardly begins.
    """

    def __init__(self, dim: int, embedding: int, heads: int = 4, places: int = 0):
        super().__init__()
        self.places = places
        self.attention = nn.Sequential(nn.Linear(dim + places, 64), nn.Tanh(), nn.Linear(64, heads))
        if places:
            self.speech = nn.Linear(dim, 1)
        self.project = nn.Linear(2 * dim * heads, embedding)
        self.centre = nn.BatchNorm1d(embedding, affine=False)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, frames, dim), mask (batch, frames) -> (batch, embedding) of length one, in single precision at least."""
        with torch.autocast(frames.device.type, enabled=False):
            return self._pool(_whole(frames), mask)

    def _pool(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        seen = torch.cat([frames, self._place(frames, mask)], dim=2) if self.places else frames
        scores = self.attention(seen).masked_fill(~mask.unsqueeze(2), -torch.inf)
        weights = scores.softmax(dim=1).transpose(1, 2)
        mean = weights @ frames
        spread = (weights @ frames.square() - mean.square()).clamp_min(1e-5).sqrt()
        return F.normalize(self.centre(self.project(torch.cat([mean, spread], dim=2).flatten(1))), dim=1)

    def _place(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Cosines of the share of the speech that lies before each frame: (batch, frames, places)."""
        speech = self.speech(frames).sigmoid().squeeze(2) * mask
        share = (speech.cumsum(dim=1) - 0.5 * speech) / speech.sum(dim=1, keepdim=True).clamp_min(1e-3)
        orders = torch.arange(1, self.places + 1, device=frames.device)
        return torch.cos(math.pi * orders * share.unsqueeze(2))


class Network(Growing):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config.alphabet)
        self.encoder = make_encoder(config.encoder, config.frontend, config.features)
        self.word = WordEmbedding(self.encoder.acoustic_dim, config.embedding, places=config.places)
        self.ctc = nn.Linear(self.encoder.dim, len(self.tokenizer))
        self.more_characters: nn.Linear | None = None
        self.background = Background(config.background, config.embedding) if config.background else None

    def embed(
        self, mels: torch.Tensor, lengths: torch.Tensor, *, word: WordEmbedding | None = None
    ) -> torch.Tensor:
        """Log-mels (batch, time, mel), lengths (batch,) -> unit word embeddings (batch, embedding).

        `word` stands in for the model's own word embedding.
        """
        return self.pool(*self.encoder.acoustic(mels, lengths), word=word)

    def pool(
        self, frames: torch.Tensor, lengths: torch.Tensor, *, word: WordEmbedding | None = None
    ) -> torch.Tensor:
        """Acoustic frames (batch, frames, acoustic_dim), lengths (batch,) -> unit word embeddings (batch, embedding)."""
        embedded = (word or self.word)(frames, frame_mask(lengths, frames.shape[1]))
        return self.background(embedded) if self.background is not None else embedded

    def characters(self, mels: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels (batch, time, mel), lengths (batch,) -> character log-probabilities
        (batch, time / subsampling, alphabet), their lengths (batch,)."""
        frames, frame_lengths = self.encoder(mels, lengths)
        return self.spell(frames), frame_lengths

    def spell(self, frames: torch.Tensor) -> torch.Tensor:
        """Context frames (batch, frames, dim) -> character log-probabilities (batch, frames, alphabet)."""
        logits = _whole(self.ctc(frames))
        if self.more_characters is not None:
            logits = torch.cat([logits, _whole(self.more_characters(frames))], dim=2)
        return logits.log_softmax(dim=2)

    def begin_from(self, other: "Network") -> None:
        """Take over the weights of `other`, in place; of its head, the rows of characters that both have.

        Raises UserError for a network of another form.
        """
        for name, ours in _form(self.config).items():
            if ours != (theirs := _form(other.config).get(name)):
                raise UserError(
                    f"{name} is {ours}, and {theirs} in the model to begin from; set the same value, or begin from no model"
                )
        self.encoder.load_state_dict(other.encoder.state_dict())
        self.word.load_state_dict(other.word.state_dict())
        ids = {character: i for i, character in enumerate(other.tokenizer.alphabet, start=1)}
        rows = [(i, ids[c]) for i, c in enumerate(self.tokenizer.alphabet, start=1) if c in ids]
        mine, its = (list(one) for one in zip((BLANK, BLANK), *rows, strict=True))
        with torch.no_grad():
            self.ctc.weight[mine] = other.ctc.weight[its]
            self.ctc.bias[mine] = other.ctc.bias[its]

    def add_output_rows(self, rows: OutputRows) -> None:
        """Characters that the alphabet lacks, with their rows of the head, in place.

        The ids of all others stay. `config` goes on describing the base, without them. Raises UserError for rows of
        another width, and for a character that is there already.
        """
        if rows.weight.shape[1] != self.encoder.dim:
            raise UserError(
                f"the delta has characters of {rows.weight.shape[1]} dimensions, which this model does not have"
            )
        if both := set(self.tokenizer.alphabet) & set(rows.alphabet):
            raise UserError(
                f"two deltas bring the character {min(both)!r}, which can have one form only; leave one out, or "
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


def _whole(x: torch.Tensor) -> torch.Tensor:
    """Sums and norms of many small parts need more digits than autocast's half floats have."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def pad(items: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-mels of different lengths to one batch (batch, time, mel) and lengths (batch,)."""
    lengths = torch.tensor([len(item) for item in items])
    return nn.utils.rnn.pad_sequence(items, batch_first=True), lengths


def _form(config: ModelConfig) -> dict[str, object]:
    """What weights have to agree in, under dotted names."""
    form: dict[str, object] = {"embedding": config.embedding, "places": config.places}
    for name in ("features", "frontend", "encoder"):
        form |= {f"{name}.{key}": value for key, value in asdict(getattr(config, name)).items()}
    del form["encoder.dropout"]
    return form
