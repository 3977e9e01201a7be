"""Trials: every query of every episode with its result, from which all figures on words are computed."""

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
EPISODE_BATCH = 32
COHORT_BATCH = 1024  # recordings


@dataclass(frozen=True)
class Trials:
    """`words` is (episodes, way); all other arrays are (queries,), in the order of `episode`.

    `truth` and `guess` index the episode's words; `truth` is UNKNOWN where the query is none of them. `background` is
    true where the query is not speech. `row` is the query's recording. A guess is accepted where its `score` reaches the
    threshold; `confidence` is its probability among the episode's words.
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

    def where(self, mask: np.ndarray) -> "Trials":
        """The queries for which `mask` (queries,) is true; episodes keep their indices."""
        arrays = {f.name: getattr(self, f.name)[mask] for f in fields(self) if f.name != "words"}
        return Trials(self.words, **arrays)


def run_trials(
    episodes: Sequence[Episode],
    embeddings: Callable[[np.ndarray], torch.Tensor],
    method: Method = "head",
    scorer: Scorer = "similarity",
    cohort: Cohort | None = None,
) -> Trials:
    """Learn each episode's words from its support and score its queries, many episodes at a time.

    `embeddings(rows)` gives (rows, views, embedding); only the first view of a query counts. With a `cohort`, scores are
    normalised as for enrolled words: a query's similarity to its nearest cohort embeddings is subtracted.
    """
    logits = torch.cat([_logits(batch, embeddings, method) for batch in _batches(episodes)])
    if cohort is not None:
        rows, index = np.unique(np.concatenate([e.query for e in episodes]), return_inverse=True)
        batches = np.array_split(rows, max(1, len(rows) // COHORT_BATCH))
        common = torch.cat([cohort.nearest(embeddings(batch)[:, 0]) for batch in batches])
        logits = logits - LOGIT_SCALE * common[torch.from_numpy(index)][:, None]
    return collect(episodes, logits, scorer)


def run_trials_by(
    logits: Callable[[Episode], torch.Tensor], episodes: Sequence[Episode], scorer: Scorer = "similarity"
) -> Trials:
    """Like `run_trials`, for any function from an episode to the logits of its queries, (queries, way)."""
    return collect(episodes, torch.cat([logits(episode) for episode in episodes]), scorer)


def collect(episodes: Sequence[Episode], logits: torch.Tensor, scorer: Scorer = "similarity") -> Trials:
    """The trials of all episodes from `logits` (queries, way), which has their queries one after another."""
    counts = [len(episode.query) for episode in episodes]
    background = [e.background if len(e.background) else np.zeros(len(e.query), bool) for e in episodes]
    return Trials(
        np.array([episode.words for episode in episodes], dtype=object),
        np.arange(len(episodes)).repeat(counts),
        np.concatenate([e.query for e in episodes]),
        np.concatenate([e.query_labels for e in episodes]),
        logits.argmax(dim=1).numpy(),
        scores(logits, scorer).numpy().astype(float),
        logits.softmax(dim=1).amax(dim=1).numpy().astype(float),
        np.concatenate(background),
    )


def _logits(
    episodes: Sequence[Episode], embeddings: Callable[[np.ndarray], torch.Tensor], method: Method
) -> torch.Tensor:
    """Logits (queries, way) of episodes that share one shape."""

    def stacked(rows: Sequence[np.ndarray]) -> torch.Tensor:
        return embeddings(np.concatenate(rows)).unflatten(0, (len(rows), -1))

    labels = torch.from_numpy(np.stack([e.support_labels for e in episodes]))
    weight = learn_heads(stacked([e.support for e in episodes]), labels, len(episodes[0].words), method)
    queries = stacked([e.query for e in episodes])[:, :, 0]
    return (LOGIT_SCALE * queries @ weight.transpose(1, 2)).flatten(0, 1)


def _batches(episodes: Sequence[Episode]) -> Iterator[list[Episode]]:
    """Consecutive episodes of one shape, few enough that their embeddings fit into a core's cache."""
    for _, same_shape in groupby(episodes, lambda e: (len(e.words), len(e.support), len(e.query))):
        while batch := list(islice(same_shape, EPISODE_BATCH)):
            yield batch


def by_episode(trials: Trials) -> np.ndarray:
    """Accuracy of the known queries of each episode, (episodes,)."""
    known = trials.where(trials.known)
    counts = np.bincount(known.episode, minlength=len(trials.words))
    return np.bincount(known.episode, known.right, len(trials.words)) / np.maximum(counts, 1)


def scores(logits: torch.Tensor, scorer: Scorer) -> torch.Tensor:
    """Acceptance scores (queries,) from logits (queries, way).

    similarity is the best logit, margin its distance to the second best, and probability its softmax (Hendrycks &
    Gimpel 2017). Raises ValueError for another scorer.
    """
    if scorer == "similarity":
        return logits.amax(dim=1)
    if scorer == "probability":
        return logits.softmax(dim=1).amax(dim=1)
    if scorer == "margin":
        best, second = logits.topk(2, dim=1).values.unbind(dim=1)
        return best - second
    raise ValueError(f"scorer {scorer!r}; expected one of {', '.join(get_args(Scorer))}")
