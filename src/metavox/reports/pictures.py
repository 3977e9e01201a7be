"""What the pictures of a report show, worked out from trials queries: confusions, a plane of embeddings, decisions."""

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

MOST_WORDS, PLANE_WORDS, MOST_RECORDINGS = 12, 10, 250
STEPS = (0, 5, 10, 20, 40)
STEP_EPISODES = 40
NEIGHBOURS = 20.0  # t-SNE's perplexity
Embeddings = Callable[[np.ndarray], torch.Tensor]


@dataclass(frozen=True)
class Confusions:
    """`rates` (words, words): of a row's queries that could have been taken for the column's word, the share that was."""

    words: list[str]
    rates: np.ndarray


def confusions(trials: Trials, most: int = MOST_WORDS) -> Confusions:
    """Of the words in the pairs that are confused most; words meet only in an episode that has both."""
    known = trials.where(trials.known)
    names, codes = np.unique(trials.words.astype(str), return_inverse=True)
    codes = codes.reshape(trials.words.shape)
    truth = codes[known.episode, known.truth]
    taken, met = np.zeros((2, len(names), len(names)))
    np.add.at(taken, (truth, codes[known.episode, known.guess]), 1)
    np.add.at(met, (truth[:, None], codes[known.episode]), 1)
    rates = np.where(met > 0, taken / np.maximum(met, 1), np.nan)
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
    """(recordings, embedding) of ten words by t-SNE (van der Maaten & Hinton 2008), by PCA where there are few.

    The words are those of `first`, then the commonest. None with fewer than three recordings. A distance between far points of t-SNE means nothing.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    names, counts = np.unique(words, return_counts=True)
    common = names[np.argsort(-counts, kind="stable")]
    chosen = list(dict.fromkeys([*first, *map(str, common)]))[:PLANE_WORDS]
    rows = np.flatnonzero(np.isin(words, chosen))
    if len(rows) > MOST_RECORDINGS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_RECORDINGS, replace=False))
    if len(rows) < 3:
        return None
    few = len(rows) <= 3 * NEIGHBOURS
    how = (
        PCA(2, svd_solver="full")
        if few
        else TSNE(2, perplexity=NEIGHBOURS, init="pca", metric="cosine", random_state=seed, n_jobs=1)
    )
    points = how.fit_transform(embeddings[rows].astype(np.float64))
    return Plane(points, words[rows], speakers[rows], "PCA" if few else "t-SNE")


@dataclass(frozen=True)
class Decision:
    """One query: what it is, what it was taken for, and which cells of its spectrogram spoke for that."""

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
    """One right and one wrong, as far as there are any: the first of each, not picked for how it looks."""
    out = []
    for wanted in (trials.right, trials.known & ~trials.right):
        found = np.flatnonzero(wanted)
        if len(found):
            out.append(_decision(model, episodes, trials, int(found[0]), embeddings, mels, method))
    return out


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
    """How a head learns: loss on what teaches and accuracy on what is asked, after each of `steps`."""

    steps: tuple[int, ...]
    loss: list[Interval]
    accuracy: list[Interval]


def course(episodes: Sequence[Episode], embeddings: Embeddings, steps: Sequence[int] = STEPS) -> Course:
    """Over the first episodes, which share one shape; step 0 is the prototypes."""
    some = episodes[:STEP_EPISODES]
    support = torch.stack([embeddings(e.support) for e in some])
    labels = torch.from_numpy(np.stack([e.support_labels for e in some]))
    asked = torch.stack([embeddings(e.query)[:, 0] for e in some])
    truth = torch.from_numpy(np.stack([e.query_labels for e in some]))
    known = truth >= 0
    losses, rights = [], []
    for count in steps:
        weight = learn_heads(support, labels, len(some[0].words), "head", count).transpose(1, 2)
        missed = cross_entropy(
            (LOGIT_SCALE * support[:, :, 0] @ weight).transpose(1, 2), labels, reduction="none"
        )
        right = ((asked @ weight).argmax(dim=2) == truth) & known
        losses.append(mean_interval(missed.mean(dim=1).numpy()))
        rights.append(mean_interval((right.sum(dim=1) / known.sum(dim=1)).numpy()))
    return Course(tuple(steps), losses, rights)
