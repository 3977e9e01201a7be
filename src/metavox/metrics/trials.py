"""Every query of every episode and what became of it: what all figures on words are counted from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby, islice
from typing import Literal, get_args

import numpy as np
import torch

from metavox.dataset.episodes import UNKNOWN, Episode
from metavox.enrolment.prototypes import Method, learn_heads
from metavox.recognisers.conformer import LOGIT_SCALE, Cohort

Scorer = Literal["similarity", "margin", "probability"]
AT_ONCE = 32  # episodes
COHORT_AT_ONCE = 1024  # recordings


@dataclass(frozen=True)
class Trials:
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

    def where(self, chosen: np.ndarray) -> "Trials":
        """The queries for which `chosen` (queries,) is true; the episodes keep their numbers."""
        parts = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "words"}
        return Trials(self.words, **parts)


def run_trials(
    episodes: Sequence[Episode],
    embeddings: Callable[[np.ndarray], torch.Tensor],
    method: Method = "head",
    scorer: Scorer = "similarity",
    cohort: Cohort | None = None,
) -> Trials:
    """Teach each episode's words and ask its queries, many episodes at once.

    `embeddings(rows)` gives (rows, views, embedding); queries are trials on the first view alone. What a query has in
    common with the model's `cohort` is taken off its similarity to every word, as for enrolled words.
    """
    logits = [_logits(part, embeddings, method) for part in _alike(episodes)]
    together = torch.cat(logits)
    if cohort is not None:
        rows, place = np.unique(np.concatenate([e.query for e in episodes]), return_inverse=True)
        parts = np.array_split(rows, max(1, len(rows) // COHORT_AT_ONCE))
        common = torch.cat([cohort.nearest(embeddings(part)[:, 0]) for part in parts])
        together = together - LOGIT_SCALE * common[torch.from_numpy(place)][:, None]
    return collect(episodes, together, scorer)


def run_trials_by(
    logits: Callable[[Episode], torch.Tensor], episodes: Sequence[Episode], scorer: Scorer = "similarity"
) -> Trials:
    """As `judge`, for anything that gives each query of an episode a logit for each word, (queries, way)."""
    return collect(episodes, torch.cat([logits(episode) for episode in episodes]), scorer)


def collect(episodes: Sequence[Episode], logits: torch.Tensor, scorer: Scorer = "similarity") -> Trials:
    """What became of the queries of all episodes, which `logits` (queries, way) has one after another."""
    asked = [len(episode.query) for episode in episodes]
    silent = [e.background if len(e.background) else np.zeros(len(e.query), bool) for e in episodes]
    return Trials(
        np.array([episode.words for episode in episodes], dtype=object),
        np.arange(len(episodes)).repeat(asked),
        np.concatenate([e.query for e in episodes]),
        np.concatenate([e.query_labels for e in episodes]),
        logits.argmax(dim=1).numpy(),
        scores(logits, scorer).numpy().astype(float),
        logits.softmax(dim=1).amax(dim=1).numpy().astype(float),
        np.concatenate(silent),
    )


def _logits(
    episodes: Sequence[Episode], embeddings: Callable[[np.ndarray], torch.Tensor], method: Method
) -> torch.Tensor:
    """Of the queries of episodes of one shape, (queries, way)."""

    def stacked(rows: Sequence[np.ndarray]) -> torch.Tensor:
        return embeddings(np.concatenate(rows)).unflatten(0, (len(rows), -1))

    labels = torch.from_numpy(np.stack([e.support_labels for e in episodes]))
    weight = learn_heads(stacked([e.support for e in episodes]), labels, len(episodes[0].words), method)
    asked = stacked([e.query for e in episodes])[:, :, 0]
    return (LOGIT_SCALE * asked @ weight.transpose(1, 2)).flatten(0, 1)


def _alike(episodes: Sequence[Episode]) -> Iterator[list[Episode]]:
    """Neighbours of one shape, as many as a core's cache holds with all that is made of them."""
    for _, same in groupby(episodes, lambda e: (len(e.words), len(e.support), len(e.query))):
        while part := list(islice(same, AT_ONCE)):
            yield part


def by_episode(trials: Trials) -> np.ndarray:
    """Accuracy of the known queries of each episode, (episodes,)."""
    known = trials.where(trials.known)
    counts = np.bincount(known.episode, minlength=len(trials.words))
    return np.bincount(known.episode, known.right, len(trials.words)) / np.maximum(counts, 1)


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
