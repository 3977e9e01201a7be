"""Joint training, the baseline to beat: every word of every language at once, and characters by CTC."""

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
from metavox.recognisers.conformer import LOGIT_SCALE, Network, Tokenizer, ctc_loss
from metavox.text import normalise_text
from metavox.training.device import Compute

CLASSES_RATE = 5.0  # a word's vector is touched by few clips and learns faster than the network
CONTEXT_RATE = 0.4  # attention stalls at the rate that convolutions like best
MIN_CLIPS = 3  # thousands of words heard once each kept the softmax from learning anything
CONTEXT = ("encoder.project", "encoder.blocks", "ctc")
LONGEST_WORD = 300  # frames; a longer 'word' was read with pauses


class CosineClasses(nn.Module):
    """One unit vector a word; logits are scaled cosines, with a margin on the true one (CosFace, Wang et al. 2018)."""

    def __init__(self, embedding: int, classes: int, margin: float = 0.0):
        super().__init__()
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(classes, embedding) / embedding**0.5)

    def loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit embeddings (batch, embedding), labels (batch,) -> mean loss, accuracy."""
        cosines = embeddings @ F.normalize(self.weight, dim=1).T
        accuracy = (cosines.argmax(dim=1) == labels).float().mean()
        with_margin = cosines - self.margin * F.one_hot(labels, cosines.shape[1])
        return F.cross_entropy(LOGIT_SCALE * with_margin, labels, label_smoothing=0.05), accuracy


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
    """Word classes are (language, text) of rows whose unit is a word, letter or syllable; rarer ones are for CTC.

    A concept names what is said without being its words: it has no tokens and is in no class.
    """
    rows = store.rows
    words = word_labels(rows)
    words = words.where(words.map(words.value_counts()) >= MIN_CLIPS, "")
    codes = pd.Categorical(words.where(words != "", None)).codes.astype(int)
    texts = rows["text"].where(has_words(rows), "")
    return Labelled(store, codes, [tokenizer.encode(text) for text in texts])


def has_words(rows: pd.DataFrame) -> pd.Series:
    """Whether a row's text is what is said, known or inferred."""
    return rows["text_kind"] != "concept"


def word_labels(rows: pd.DataFrame) -> pd.Series:
    """`language:text` where a row is a word, letter or syllable that can be trusted, else empty."""
    usable = rows["unit"].isin(("word", "letter")) & has_words(rows)
    text = rows["language"] + ":" + rows["text"].map(normalise_text)
    return text.where(usable & ~text.str.endswith(":"), "")


def pair_loss(embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One example a word against all words of the batch (Sohn 2016; Chung et al. 2020, section 2.2) -> loss, accuracy.

    embeddings (2 * words, embedding) of length one, labels (2 * words,), pairs of one label next to each other. Each of
    a pair is asked for, with the other ones as examples; a word that is there twice is no wrong answer to itself.
    """
    first, second, word = embeddings[::2], embeddings[1::2], labels[::2]
    same = (word[:, None] == word[None, :]) & ~torch.eye(len(word), dtype=torch.bool, device=word.device)
    logits = (LOGIT_SCALE * first @ second.T).masked_fill(same, -torch.inf)
    target = torch.arange(len(word), device=word.device)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss, (logits.argmax(dim=1) == target).float().mean()


@dataclass(frozen=True)
class WordLoss:
    """How words are learned: weights of the softmax over all of them, and of pairs inside a batch.

    Pairs teach from the first step, however many words there are; the softmax knows all words at once. A recorded word comes
    `recorded` times as often as a synthetic one, and may then be its own pair, under another perturbation.
    """

    softmax: float = 1.0
    pairs: float = 0.0
    recorded: int = 1
    longest: int = LONGEST_WORD  # frames


class JointTask:
    """Loss of one step: a batch of words, and a batch of utterances by CTC, `share` of the budget in frames.

    A share of 0 learns words alone.
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
        self.compute.place(model)
        self.model, self.data, self.perturb, self.ramp_steps = model, data, perturb, ramp_steps
        self.how = how = words or WordLoss()
        frames = data.store.frames
        short = (data.labels >= 0) & (frames <= how.longest)
        often = np.where(data.store.rows["synthetic"], 1, how.recorded)
        self._words = np.flatnonzero(short).repeat(often[short])
        # A recorded word is learned both ways, a synthetic one as a whole only.
        spelled = (data.labels < 0) | ~data.store.rows["synthetic"].to_numpy(bool)
        self._texts = np.flatnonzero(spelled & np.array([len(t) > 0 for t in data.tokens]))
        if not len(self._words) or (share and not len(self._texts)):
            raise UserError(
                f"training: {len(self._words)} clips of words with at least {MIN_CLIPS} clips each and {len(self._texts)} "
                "other transcribed recordings; expected some of both among the clean training rows"
            )
        # A batch of words must hold many different ones: lengths are sorted only roughly.
        self._word_batches = EndlessBatches(
            frames[self._words],
            int(budget * (1 - share)),
            seed,
            mixing=0.5,
            labels=data.labels[self._words] if how.pairs else None,
        )
        self._text_batches = EndlessBatches(frames[self._texts], int(budget * share), seed) if share else None
        self.classes = self.compute.place(classes or CosineClasses(model.config.embedding, data.classes))

    def __call__(self, step: int, random: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        rows = self._words[self._word_batches(step)]
        clips = self.compute.move(*self._at(step)(*self.data.store.batch(rows), random))
        with self.compute.autocast():
            embeddings = self.model.embed(*clips)
        (labels,) = self.compute.move(torch.from_numpy(self.data.labels[rows]))
        embeddings = embeddings.to(self.classes.weight.dtype)
        loss, accuracy = self.classes.loss(embeddings, labels)
        if self.how.pairs:
            pairs, accuracy = pair_loss(embeddings, labels)
            loss = self.how.softmax * loss + self.how.pairs * pairs
        if self._text_batches is None:
            return loss, {"loss": float(loss.detach()), "accuracy": float(accuracy)}
        ctc = self.utterances(step, random)
        record = {"loss": float(loss.detach()), "ctc": float(ctc.detach()), "accuracy": float(accuracy)}
        return loss + ctc, record

    def utterances(self, step: int, random: torch.Generator) -> torch.Tensor:
        """The CTC loss of the step's batch of utterances."""
        assert self._text_batches is not None
        rows = self._texts[self._text_batches(step)]
        clips = self.compute.move(*self._at(step)(*self.data.store.batch(rows), random))
        with self.compute.autocast():
            characters, lengths = self.model.characters(*clips)
        return ctc_loss(characters, lengths, [self.data.tokens[row] for row in rows])

    def _at(self, step: int) -> Perturb:
        """Clean speech first: under full perturbation from the start, the words are not learned for long."""
        return self.perturb if step >= self.ramp_steps else self.perturb.scaled(step / self.ramp_steps)

    def groups(self) -> list[dict[str, Any]]:
        """Parameters for an optimizer; `faster` is a group's rate in parts of the step's rate (`set_rate`)."""
        context = [p for n, p in self.model.named_parameters() if n.startswith(CONTEXT)]
        chosen = set(context)
        convolutions = [p for p in self.model.parameters() if p not in chosen]
        return [
            {"params": convolutions, "faster": 1.0},
            {"params": context, "faster": CONTEXT_RATE},
            {"params": list(self.classes.parameters()), "faster": CLASSES_RATE},
        ]

    @property
    def clips_a_step(self) -> float:
        """Words that pass through the network in a step, on average."""
        first = [len(self._word_batches(step)) for step in range(20)]
        return sum(first) / len(first)
