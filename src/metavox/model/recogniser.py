"""The recogniser: one encoder, a word embedding for few examples, and characters by CTC."""

from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from metavox.audio.features import FeatureConfig
from metavox.model.encoders import EncoderConfig, make_encoder
from metavox.model.frames import frame_mask
from metavox.model.frontend import FrontEndConfig
from metavox.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class ModelConfig:
    """All that must be rolled back together: features, encoder, embedding, alphabet, front end."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    embedding: int = 192
    alphabet: str = " 'abcdefghijklmnopqrstuvwxyz"
    frontend: FrontEndConfig = field(default_factory=FrontEndConfig)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "ModelConfig":
        return cls(
            FeatureConfig(**values["features"]), EncoderConfig(**values["encoder"]),
            values["embedding"], values["alphabet"],
            FrontEndConfig(**values.get("frontend", {})),
        )  # fmt: skip


class WordEmbedding(nn.Module):
    """Attentive statistics pooling (Okabe et al. 2018) over several attention heads, then a unit vector.

    The normalisation before the unit vector takes out what all words share; without it the cosines of all
    pairs start near one and training hardly begins.
    """

    def __init__(self, dim: int, embedding: int, heads: int = 4):
        super().__init__()
        self.attention = nn.Sequential(nn.Linear(dim, 64), nn.Tanh(), nn.Linear(64, heads))
        self.project = nn.Linear(2 * dim * heads, embedding)
        self.centre = nn.BatchNorm1d(embedding, affine=False)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, frames, dim), mask (batch, frames) -> (batch, embedding) of length one."""
        scores = self.attention(frames).masked_fill(~mask.unsqueeze(2), -torch.inf)
        weights = scores.softmax(dim=1).transpose(1, 2)
        mean = weights @ frames
        spread = (weights @ frames.square() - mean.square()).clamp_min(1e-5).sqrt()
        return F.normalize(self.centre(self.project(torch.cat([mean, spread], dim=2).flatten(1))), dim=1)


class Recogniser(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config.alphabet)
        self.encoder = make_encoder(config.encoder, config.frontend, config.features)
        self.word = WordEmbedding(self.encoder.acoustic_dim, config.embedding)
        self.ctc = nn.Linear(self.encoder.dim, len(self.tokenizer))

    def embed(self, mels: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Log-mels (batch, time, mel), lengths (batch,) -> unit word embeddings (batch, embedding)."""
        frames, frame_lengths = self.encoder.acoustic(mels, lengths)
        return self.word(frames, frame_mask(frame_lengths, frames.shape[1]))

    def characters(self, mels: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels (batch, time, mel), lengths (batch,) -> character log-probabilities
        (batch, time / subsampling, alphabet), their lengths (batch,)."""
        frames, frame_lengths = self.encoder(mels, lengths)
        return self.ctc(frames).log_softmax(dim=2), frame_lengths


def pad(items: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-mels of different lengths to one batch (batch, time, mel) and lengths (batch,)."""
    lengths = torch.tensor([len(item) for item in items])
    return nn.utils.rnn.pad_sequence(items, batch_first=True), lengths
