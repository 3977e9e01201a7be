"""Every query of every episode and what became of it: what all figures on words are counted from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import torch

from metavox.corpus.episodes import UNKNOWN, Episode
from metavox.learn.words import SCALE, Method, learn_words
from metavox.recognisers.conformer.background import Background

Scorer = Literal["similarity", "margin", "probability"]


@dataclass(frozen=True)
class Judged:
    """`words` (episodes, way); all else (queries,), in the order of `episode`.

    `truth` and `guess` are places in the episode's words, `truth` UNKNOWN where the query is none of them, and
    `background` where it is no speech at all. `row` is the query's recording. A guess is accepted where its `score`
    is high enough; `confidence` is the probability that the recogniser gives it among the words.
    """

    words: np.ndarray
    episode: np.ndarray
    row: np.ndarray
    truth: np.ndarray
    guess: np.ndarray
    score: np.ndarray
    confidence: np.ndarray
    background: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @property
    def known(self) -> np.ndarray:
        return self.truth != UNKNOWN

    @property
    def right(self) -> np.ndarray:
        return self.known & (self.truth == self.guess)

    def where(self, chosen: np.ndarray) -> "Judged":
        """The queries for which `chosen` (queries,) is true; the episodes keep their numbers."""
        parts = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "words"}
        return Judged(self.words, **parts)


def judge(
    episodes: Sequence[Episode], embeddings: Callable[[np.ndarray], torch.Tensor],
    method: Method = "head", scorer: Scorer = "similarity", background: Background | None = None,
) -> Judged:  # fmt: skip
    """Teach each episode's words and ask its queries.

    `embeddings(rows)` gives (rows, views, embedding); queries are judged on the first view alone. What a query has in
    common with the model's `background` is taken off its similarity to every word, as for enrolled words.
    """

    def logits(episode: Episode) -> torch.Tensor:
        labels = torch.from_numpy(episode.support_labels)
        head = learn_words(embeddings(episode.support), labels, len(episode.words), method)
        asked = embeddings(episode.query)[:, 0]
        return head.logits(asked) - (SCALE * background.cohort(asked)[:, None] if background else 0.0)

    return judge_by(logits, episodes, scorer)


def judge_by(
    logits: Callable[[Episode], torch.Tensor], episodes: Sequence[Episode], scorer: Scorer = "similarity"
) -> Judged:
    """As `judge`, for anything that gives each query of an episode a logit for each word, (queries, way)."""
    parts: dict[str, list[np.ndarray]] = {f.name: [] for f in fields(Judged)}
    for number, episode in enumerate(episodes):
        values = logits(episode)
        silent = episode.background if len(episode.background) else np.zeros(len(episode.query), bool)
        found = {
            "words": np.array([episode.words], dtype=object),
            "episode": np.full(len(episode.query), number), "row": episode.query, "truth": episode.query_labels,
            "guess": values.argmax(dim=1).numpy(), "score": scores(values, scorer).numpy().astype(float),
            "confidence": values.softmax(dim=1).amax(dim=1).numpy().astype(float), "background": silent,
        }  # fmt: skip
        for name, value in found.items():
            parts[name].append(value)
    return Judged(**{name: np.concatenate(values) for name, values in parts.items()})


def by_episode(judged: Judged) -> np.ndarray:
    """Accuracy of the known queries of each episode, (episodes,)."""
    known = judged.where(judged.known)
    counts = np.bincount(known.episode, minlength=len(judged.words))
    return np.bincount(known.episode, known.right, len(judged.words)) / np.maximum(counts, 1)


def scores(logits: torch.Tensor, scorer: Scorer) -> torch.Tensor:
    """Logits (queries, way) -> how surely each query is one of the words, (queries,).

    similarity: the best logit; margin: how far it is above the second; probability: its softmax (Hendrycks &
    Gimpel 2017).
    """
    if scorer == "similarity":
        return logits.amax(dim=1)
    if scorer == "probability":
        return logits.softmax(dim=1).amax(dim=1)
    if scorer == "margin":
        best, second = logits.topk(2, dim=1).values.unbind(dim=1)
        return best - second
    raise ValueError(f"scorer {scorer!r}; expected one of {', '.join(get_args(Scorer))}")
