"""The data behind the pictures of a report, computed from trials: confusions, a plane of embeddings, decisions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from metavox.dataset.episodes import Episode
from metavox.enrolment.prototypes import Method, learn_heads, learn_words
from metavox.metrics.attribution import Attribution, attribute
from metavox.metrics.rates import Interval, mean_interval
from metavox.metrics.trials import Trials
from metavox.recognisers.conformer import LOGIT_SCALE, Network

MAX_WORDS, PLANE_WORDS, MAX_RECORDINGS = 12, 10, 250
STEPS = (0, 5, 10, 20, 40)
STEP_EPISODES = 40
PERPLEXITY = 20.0  # of t-SNE
Embeddings = Callable[[np.ndarray], torch.Tensor]


@dataclass(frozen=True)
class Confusions:
    """`rates` (words, words): the share of a row's queries that were recognised as the column's word, in episodes with
    both words; NaN where there are none."""

    words: list[str]
    rates: np.ndarray


def confusions(trials: Trials, most: int = MAX_WORDS) -> Confusions:
    """Confusions of the `most` words in the pairs that are confused most often."""
    known = trials.where(trials.known)
    names, codes = np.unique(trials.words.astype(str), return_inverse=True)
    codes = codes.reshape(trials.words.shape)
    truth = codes[known.episode, known.truth]
    guesses, possible = np.zeros((2, len(names), len(names)))
    np.add.at(guesses, (truth, codes[known.episode, known.guess]), 1)
    np.add.at(possible, (truth[:, None], codes[known.episode]), 1)
    rates = np.where(possible > 0, guesses / np.maximum(possible, 1), np.nan)
    wrong = np.where(np.eye(len(names), dtype=bool) | np.isnan(rates), -1.0, rates)
    chosen: list[int] = []
    for pair in np.argsort(-wrong, axis=None, kind="stable"):
        new = [int(i) for i in np.unravel_index(pair, wrong.shape) if i not in chosen]
        if len(chosen) + len(new) > most:
            break
        chosen += new
        if len(chosen) == len(names):
            break
    order = sorted(chosen)
    return Confusions([str(names[i]) for i in order], rates[np.ix_(order, order)])


@dataclass(frozen=True)
class Plane:
    """`points` (recordings, 2), and the word and speaker of each."""

    points: np.ndarray
    words: np.ndarray
    speakers: np.ndarray
    method: str


def plane(
    embeddings: np.ndarray, words: np.ndarray, speakers: np.ndarray, seed: int = 0, first: Sequence[str] = ()
) -> Plane | None:
    """Project the embeddings (recordings, embedding) of ten words by t-SNE (van der Maaten & Hinton 2008).

    Few recordings are projected by PCA instead, and fewer than three give None. The words are those of `first`, then the
    most frequent ones. Distances between far points of t-SNE have no meaning.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    names, counts = np.unique(words, return_counts=True)
    common = names[np.argsort(-counts, kind="stable")]
    chosen = list(dict.fromkeys([*first, *map(str, common)]))[:PLANE_WORDS]
    rows = np.flatnonzero(np.isin(words, chosen))
    if len(rows) > MAX_RECORDINGS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_RECORDINGS, replace=False))
    if len(rows) < 3:
        return None
    few = len(rows) <= 3 * PERPLEXITY
    projection = (
        PCA(2, svd_solver="full")
        if few
        else TSNE(2, perplexity=PERPLEXITY, init="pca", metric="cosine", random_state=seed, n_jobs=1)
    )
    points = projection.fit_transform(embeddings[rows].astype(np.float64))
    return Plane(points, words[rows], speakers[rows], "PCA" if few else "t-SNE")


@dataclass(frozen=True)
class Decision:
    """One query: its word, the word it was recognised as, and the contribution of each cell of its spectrogram."""

    row: int
    word: str
    guess: str
    confidence: float
    attribution: Attribution

    @property
    def right(self) -> bool:
        return self.word == self.guess


def decisions(
    model: Network,
    episodes: Sequence[Episode],
    trials: Trials,
    embeddings: Embeddings,
    mels: Callable[[int], torch.Tensor],
    method: Method = "head",
) -> list[Decision]:
    """The first correct and the first wrong decision, as far as there are any; they are not selected by appearance."""
    explained = []
    for mask in (trials.right, trials.known & ~trials.right):
        queries = np.flatnonzero(mask)
        if len(queries):
            explained.append(_decision(model, episodes, trials, int(queries[0]), embeddings, mels, method))
    return explained


def _decision(
    model: Network,
    episodes: Sequence[Episode],
    trials: Trials,
    query: int,
    embeddings: Embeddings,
    mels: Callable[[int], torch.Tensor],
    method: Method,
) -> Decision:
    episode = episodes[int(trials.episode[query])]
    labels = torch.from_numpy(episode.support_labels)
    head = learn_words(embeddings(episode.support), labels, len(episode.words), method)
    row, guess = int(trials.row[query]), int(trials.guess[query])
    return Decision(
        row,
        episode.words[int(trials.truth[query])],
        episode.words[guess],
        float(trials.confidence[query]),
        attribute(model, head, mels(row), guess),
    )


@dataclass(frozen=True)
class Course:
    """The learning curve of a head: loss on the support and accuracy on the queries after each of `steps`."""

    steps: tuple[int, ...]
    loss: list[Interval]
    accuracy: list[Interval]


def course(episodes: Sequence[Episode], embeddings: Embeddings, steps: Sequence[int] = STEPS) -> Course:
    """The learning curve over the first episodes, which share one shape; step 0 has the prototypes."""
    subset = episodes[:STEP_EPISODES]
    support = torch.stack([embeddings(e.support) for e in subset])
    labels = torch.from_numpy(np.stack([e.support_labels for e in subset]))
    queries = torch.stack([embeddings(e.query)[:, 0] for e in subset])
    truth = torch.from_numpy(np.stack([e.query_labels for e in subset]))
    known = truth >= 0
    losses, rights = [], []
    for count in steps:
        weight = learn_heads(support, labels, len(subset[0].words), "head", count).transpose(1, 2)
        loss = cross_entropy(
            (LOGIT_SCALE * support[:, :, 0] @ weight).transpose(1, 2), labels, reduction="none"
        )
        right = ((queries @ weight).argmax(dim=2) == truth) & known
        losses.append(mean_interval(loss.mean(dim=1).numpy()))
        rights.append(mean_interval((right.sum(dim=1) / known.sum(dim=1)).numpy()))
    return Course(tuple(steps), losses, rights)
