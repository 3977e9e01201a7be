"""Joint training: all words of all languages at once, and characters by CTC. The baseline of the meta-learners."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from metavox.audio.perturb import Perturb
from metavox.dataset.batches import EndlessBatches
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.recognisers.conformer import LOGIT_SCALE, Network, Tokenizer, ctc_sum
from metavox.text import normalise_text
from metavox.training.device import Compute

CLASSES_RATE = 5.0  # few clips update each word's vector, so it needs a higher learning rate than the network
CONTEXT_RATE = 0.4  # attention does not learn at the learning rate that suits the convolutions best
MIN_CLIPS = 3  # with thousands of words of one clip each, the softmax did not learn at all
CONTEXT = ("encoder.project", "encoder.blocks", "ctc")
MARGIN_S = 0.2  # around a word in training, at most: where a word ends is not exactly known
LONGEST_WORD = 300  # frames; longer recordings of a word contain pauses


class CosineClasses(nn.Module):
    """A classifier with one unit vector per word; logits are scaled cosines, with a margin on the true word (CosFace,
    Wang et al. 2018)."""

    def __init__(self, embedding: int, classes: int, margin: float = 0.0):
        super().__init__()
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(classes, embedding) / embedding**0.5)

    def loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss and accuracy of unit embeddings (batch, embedding) with labels (batch,)."""
        cosines = embeddings @ F.normalize(self.weight, dim=1).T
        accuracy = (cosines.argmax(dim=1) == labels).float().mean()
        with_margin = cosines - self.margin * F.one_hot(labels, cosines.shape[1])
        return F.cross_entropy(LOGIT_SCALE * with_margin, labels, label_smoothing=0.05), accuracy


@dataclass(frozen=True)
class Labelled:
    """The rows of a store with their word classes, and with their tokens for CTC."""

    store: Store
    labels: np.ndarray  # (rows,) word class; -1 if the row is not a word
    tokens: list[list[int]]

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    def words(self, rows: np.ndarray, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded words (batch, time, width) and their lengths (batch,), with some of the silence around each."""
        return self.store.words(rows, round(MARGIN_S / self.store.config.hop_s), random)


def labelled(store: Store, tokenizer: Tokenizer) -> Labelled:
    """Assign word classes and CTC tokens to the rows of a store.

    A word class is a (language, text) pair of rows whose unit is a word or letter, with at least `MIN_CLIPS` clips;
    rarer words are used for CTC only. A text of the kind `concept` is not the spoken text, so such a row gets neither
    a class nor tokens.
    """
    rows = store.rows
    words = word_labels(rows)
    words = words.where(words.map(words.value_counts()) >= MIN_CLIPS, "")
    codes = pd.Categorical(words.where(words != "", None)).codes.astype(int)
    texts = rows["text"].where(has_words(rows), "")
    return Labelled(store, codes, [tokenizer.encode(text) for text in texts])


def has_words(rows: pd.DataFrame) -> pd.Series:
    """Whether the text of each row (rows,) is the spoken text, known or inferred, rather than a concept."""
    return rows["text_kind"] != "concept"


def word_labels(rows: pd.DataFrame) -> pd.Series:
    """`language:text` of rows (rows,) that are a spoken word or letter; empty for all others."""
    usable = rows["unit"].isin(("word", "letter")) & has_words(rows)
    text = rows["language"] + ":" + rows["text"].map(normalise_text)
    return text.where(usable & ~text.str.endswith(":"), "")


def contrastive_loss(embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrastive loss and accuracy over a batch: each clip must find the other clip of its word among all words
    (Sohn 2016; Chung et al. 2020, section 2.2).

    `embeddings` are unit vectors (2 * words, embedding) and `labels` is (2 * words,), with the two clips of a pair next
    to each other. If a word occurs in two pairs, neither is a negative of the other.
    """
    first, second, word = embeddings[::2], embeddings[1::2], labels[::2]
    same = (word[:, None] == word[None, :]) & ~torch.eye(len(word), dtype=torch.bool, device=word.device)
    logits = (LOGIT_SCALE * first @ second.T).masked_fill(same, -torch.inf)
    target = torch.arange(len(word), device=word.device)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss, (logits.argmax(dim=1) == target).float().mean()


@dataclass(frozen=True)
class WordLoss:
    """How words are learned: the weights of the classifier over all words and of the contrastive loss within a batch.

    The contrastive loss gives a useful gradient from the first step, however many words there are; the classifier
    compares each clip with all words. A recorded word is drawn `recorded_oversampling` times as often as a synthetic
    one, and may then be its own positive under another perturbation. Words longer than `max_word_frames` are left out.
    """

    classifier_weight: float = 1.0
    contrastive_weight: float = 0.0
    recorded_oversampling: int = 1
    max_word_frames: int = LONGEST_WORD


class JointTask:
    """The loss of one step: a batch of words, and a batch of utterances by CTC.

    `budget` is the number of frames per step, of which `share` is spent on utterances; with a share of 0, only words
    are learned. During the first `ramp_steps` steps the perturbation grows from none to `perturb`. Raises UserError if
    there is no word with enough clips, or no utterance when `share` is above 0.
    """

    def __init__(
        self,
        model: Network,
        data: Labelled,
        budget: int,
        share: float,
        seed: int,
        perturb: Perturb,
        classes: CosineClasses | None = None,
        ramp_steps: int = 0,
        compute: Compute | None = None,
        words: WordLoss | None = None,
    ) -> None:
        self.compute = compute or Compute()
        self.ranks = self.compute.ranks
        self.compute.place(model)
        self.model, self.data, self.perturb, self.ramp_steps = model, data, perturb, ramp_steps
        self.word_loss = word_loss = words or WordLoss()
        frames = data.store.frames
        short = (data.labels >= 0) & (frames <= word_loss.max_word_frames)
        repeats = np.where(data.store.rows["synthetic"], 1, word_loss.recorded_oversampling)
        self._words = np.flatnonzero(short).repeat(repeats[short])
        # Recorded words are used for CTC too, synthetic words for the word loss only.
        for_ctc = (data.labels < 0) | ~data.store.rows["synthetic"].to_numpy(bool)
        self._texts = np.flatnonzero(for_ctc & np.array([len(t) > 0 for t in data.tokens]))
        if not len(self._words) or (share and not len(self._texts)):
            raise UserError(
                f"training: the clean training rows have {len(self._words)} clips of words with at least {MIN_CLIPS} clips "
                f"each and {len(self._texts)} other transcribed recordings; expected some of both; add recordings"
            )
        # A batch must hold many different words, so clips are only roughly sorted by length.
        self._word_batches = EndlessBatches(
            frames[self._words],
            int(budget * (1 - share)),
            seed,
            mixing=0.5,
            labels=data.labels[self._words] if word_loss.contrastive_weight else None,
        )
        self._text_batches = EndlessBatches(frames[self._texts], int(budget * share), seed) if share else None
        self.classes = self.compute.place(classes or CosineClasses(model.config.embedding, data.classes))

    def __call__(self, step: int, random: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        rows = self._words[self._word_batches(step)]
        clips = self._share(self._perturb_at(step)(*self.data.words(rows, random), random))
        with self.compute.autocast():
            embeddings = self.model.embed(*clips)
        # From here on, all processes compute the same, because each clip is compared with all of the batch.
        embeddings = self.ranks.gather(embeddings, len(rows))
        (labels,) = self.compute.move(torch.from_numpy(self.data.labels[rows]))
        embeddings = embeddings.to(self.classes.weight.dtype)
        loss, accuracy = self.classes.loss(embeddings, labels)
        if self.word_loss.contrastive_weight:
            pairs, accuracy = contrastive_loss(embeddings, labels)
            loss = self.word_loss.classifier_weight * loss + self.word_loss.contrastive_weight * pairs
        mine = loss / self.ranks.world
        if self._text_batches is None:
            return mine, {"loss": float(loss.detach()), "accuracy": float(accuracy)}
        ctc = self.utterance_loss(step, random)
        record = {
            "loss": float(loss.detach()),
            "ctc": float(self.ranks.sum(ctc)),
            "accuracy": float(accuracy),
        }
        return mine + ctc, record

    def utterance_loss(self, step: int, random: torch.Generator) -> torch.Tensor:
        """The CTC loss of the batch of utterances of a step; of several processes, this one's summand."""
        assert self._text_batches is not None
        rows = self._texts[self._text_batches(step)]
        clips = self._share(self._perturb_at(step)(*self.data.store.batch(rows), random))
        with self.compute.autocast():
            characters, lengths = self.model.characters(*clips)
        tokens = [self.data.tokens[row] for row in rows[self.ranks.share(len(rows))]]
        return self.ranks.mean(*ctc_sum(characters, lengths, tokens))

    def _share(self, clips: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """This process's share of the clips of a batch, on its device and as padded as the whole batch."""
        share = self.ranks.share(len(clips[0]))
        return self.compute.move(*(tensor[share] for tensor in clips))

    def _perturb_at(self, step: int) -> Perturb:
        """The perturbation of a step. It starts from clean speech: under full perturbation from the start, the network
        takes long to learn any word."""
        return self.perturb if step >= self.ramp_steps else self.perturb.scaled(step / self.ramp_steps)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer; `faster` multiplies the learning rate of a group (see `set_rate`)."""
        context = [p for n, p in self.model.named_parameters() if n.startswith(CONTEXT)]
        in_context = set(context)
        convolutions = [p for p in self.model.parameters() if p not in in_context]
        return [
            {"params": convolutions, "faster": 1.0},
            {"params": context, "faster": CONTEXT_RATE},
            {"params": list(self.classes.parameters()), "faster": CLASSES_RATE},
        ]
