"""Joint training, the baseline to beat: every word of every language at once, and characters by CTC."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from metavox.audio.perturb import Perturbation
from metavox.corpus.batches import EndlessBatches
from metavox.corpus.store import Store
from metavox.model.recogniser import Recogniser
from metavox.model.tokenizer import Tokenizer, normalise_text

SCALE = 24.0  # of cosine logits: between unit vectors only a scale makes a sharp softmax possible


class CosineClasses(nn.Module):
    """One unit vector a word; logits are scaled cosines with a margin on the true one (CosFace, Wang et al. 2018)."""

    def __init__(self, embedding: int, classes: int, margin: float = 0.1):
        super().__init__()
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(classes, embedding) / embedding**0.5)

    def loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit embeddings (batch, embedding), labels (batch,) -> mean loss, accuracy."""
        cosines = embeddings @ F.normalize(self.weight, dim=1).T
        accuracy = (cosines.argmax(dim=1) == labels).float().mean()
        with_margin = cosines - self.margin * F.one_hot(labels, cosines.shape[1])
        return F.cross_entropy(SCALE * with_margin, labels, label_smoothing=0.05), accuracy


@dataclass(frozen=True)
class Labelled:
    """Clips with a word label each, or with text for CTC: rows of one store."""

    store: Store
    labels: np.ndarray  # (rows,) word class, -1 where the row is not a word
    tokens: list[list[int]]

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1


def labelled(store: Store, tokenizer: Tokenizer) -> Labelled:
    """Word classes are (language, text) of rows whose unit is a word, letter or syllable."""
    rows = store.rows
    words = word_labels(rows)
    codes = pd.Categorical(words.where(words != "", None)).codes.astype(int)
    return Labelled(store, codes, [tokenizer.encode(text) for text in rows["text"]])


def word_labels(rows: pd.DataFrame) -> pd.Series:
    """`language:text` where a row is a word, letter or syllable that can be trusted, else empty."""
    usable = rows["unit"].isin(("word", "letter")) & (rows["text_kind"] != "concept")
    text = rows["language"] + ":" + rows["text"].map(normalise_text)
    return text.where(usable & ~text.str.endswith(":"), "")


class JointTask:
    """Loss of one step: a batch of words (classes and characters) and a batch of utterances (characters)."""

    def __init__(self, model: Recogniser, data: Labelled, budget: int, share: float, weight: float, seed: int):
        self.model, self.data, self.weight = model, data, weight
        words = np.flatnonzero(data.labels >= 0)
        frames = data.store.frames
        # Words are many and alike; shuffling them fully, not by length, would cost padding for nothing.
        self._words, self._word_batches = words, EndlessBatches(frames[words], int(budget * (1 - share)), seed)
        texts = np.flatnonzero((data.labels < 0) & np.array([len(t) > 0 for t in data.tokens]))
        self._texts = texts
        self._text_batches = EndlessBatches(frames[texts], int(budget * share), seed) if len(texts) else None
        self.classes = CosineClasses(model.config.embedding, data.classes)
        self.perturb = Perturbation()

    def __call__(self, step: int, random: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        rows = self._words[self._word_batches(step)]
        mels, lengths = self.perturb(*self.data.store.batch(rows), random)
        embeddings, characters, out_lengths = self.model(mels, lengths)
        loss, accuracy = self.classes.loss(embeddings, torch.from_numpy(self.data.labels[rows]))
        characters_loss = self._ctc(characters, out_lengths, rows)
        if self._text_batches:
            rows = self._texts[self._text_batches(step)]
            mels, lengths = self.perturb(*self.data.store.batch(rows), random)
            frames, out_lengths = self.model.encoder(mels, lengths)
            utterances_loss = self._ctc(self.model.ctc(frames).log_softmax(dim=2), out_lengths, rows)
            characters_loss = 0.3 * characters_loss + utterances_loss
        total = loss + self.weight * characters_loss
        return total, {"loss": float(loss.detach()), "ctc": float(characters_loss.detach()), "accuracy": float(accuracy)}

    def _ctc(self, characters: torch.Tensor, lengths: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        return ctc_loss(characters, lengths, [self.data.tokens[row] for row in rows])


def ctc_loss(characters: torch.Tensor, lengths: torch.Tensor, tokens: list[list[int]]) -> torch.Tensor:
    """Mean loss a character; items whose text does not fit their frames count as nothing.

    characters (batch, frames, alphabet) log-probabilities, lengths (batch,).
    """
    target_lengths = torch.tensor([len(t) for t in tokens])
    targets = torch.tensor([i for t in tokens for i in t], dtype=torch.long)
    losses = F.ctc_loss(
        characters.transpose(0, 1), targets, lengths, target_lengths, reduction="none", zero_infinity=True
    )
    return losses.sum() / target_lengths.sum().clamp_min(1)
