"""Open-set recognition: a cohort for score normalisation, thresholds for a false-accept rate, and calibrated
confidences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from metavox.audio.perturb import LOG_FLOOR
from metavox.config import FeatureConfig
from metavox.dataset.store import Store
from metavox.enrolment.prototypes import embed_mels
from metavox.errors import UserError
from metavox.recognisers.conformer import Cohort, Network, within_class_whitening
from metavox.training.joint import word_labels

MAX_WORD_FRAMES, FRAGMENT_FRAMES = 300, (50, 120)
MAX_CLIPS_PER_WORD = 8
NOISE_SHARE = 0.05  # of the cohort
FRAGMENT_SHARE = 0.2  # of the cohort; fragments of sentences
TEMPERATURES = np.geomspace(0.25, 4.0, 33)
BINS = 10


def build_cohort(model: Network, store: Store, count: int = 2000, seed: int = 0) -> None:
    """Give the model a cohort of up to `count` embeddings from the clean training rows of `store`, in place.

    The cohort consists of words, fragments of sentences and noise. Up to four times `count` words also determine the
    whitening of the embeddings. The cohort is saved and loaded with the model. Raises UserError if fewer than two words
    have two clips.
    """
    random = np.random.default_rng(seed)
    rows = store.rows
    labels = word_labels(rows).where(rows["frames"].between(1, MAX_WORD_FRAMES), "").to_numpy()
    word_rows = _sample_words(labels, 4 * count, random)
    names, codes = np.unique(labels[word_rows], return_inverse=True)
    if (np.bincount(codes) > 1).sum() < 2:
        raise UserError(
            f"cohort: the clean training rows have {len(names)} words, fewer than two of them with two clips; "
            "expected several words with several clips each; add recordings of words"
        )
    model.cohort, model.config = None, replace(model.config, cohort=0)
    margins = (model.config.word_margin, model.config.word_margin)
    embeddings = _embed(model, [store.word(int(i), margins) for i in word_rows])
    mean = embeddings.mean(dim=0)
    whiten = within_class_whitening(embeddings - mean, torch.from_numpy(codes))
    long_rows = np.flatnonzero(
        (rows["unit"] == "sentence").to_numpy() & (rows["frames"] > FRAGMENT_FRAMES[1]).to_numpy()
    )
    fragments = [
        _fragment(store[int(i)], random) for i in _sample(long_rows, round(FRAGMENT_SHARE * count), random)
    ]
    noises = [_noise(model.config.features, random) for _ in range(round(NOISE_SHARE * count))]
    other_embeddings = _embed(model, fragments + noises)
    first_of_word = np.unique(codes, return_index=True)[
        1
    ]  # further clips of a word would be its nearest neighbours
    kept = random.permutation(first_of_word)[: max(0, count - len(other_embeddings))]
    selected = torch.cat([other_embeddings, embeddings[kept]])
    cohort = Cohort(len(selected), model.config.embedding)
    cohort.mean.copy_(mean)
    cohort.whiten.copy_(whiten)
    cohort.embeddings.copy_(cohort(selected))
    model.cohort, model.config = cohort.eval(), replace(model.config, cohort=len(selected))


def false_accept_threshold(scores: torch.Tensor, rate: float) -> float:
    """The threshold that a share `rate` of the best scores (clips,) of unknown clips reaches."""
    return float(scores.double().quantile(1 - rate))


def extreme_quantile(scores: torch.Tensor, rate: float) -> float:
    """As `false_accept_threshold`, for few scores: the quantile of a Gumbel distribution with their mean and standard
    deviation, which the maximum of several scores approximately follows."""
    scale = float(scores.std()) * math.sqrt(6) / math.pi
    return float(scores.mean()) + scale * (-np.euler_gamma - math.log(-math.log1p(-rate)))


def fit_logit_scale(scores: torch.Tensor, labels: torch.Tensor, start: float) -> float:
    """The factor that minimises the cross-entropy of held-out scores (clips, words) with labels (clips,) as logits.

    This is temperature scaling (Guo et al. 2017), within a factor of four of `start`. One additional ambiguous clip
    keeps the confidence finite when all clips are correct.
    """
    if scores.shape[1] < 2 or not len(scores):
        return start

    def loss(factor: float) -> float:
        logs = (factor * start * scores).log_softmax(dim=1)
        prior = -logs.mean(dim=1).mean()
        return float(torch.nn.functional.nll_loss(logs, labels, reduction="sum") + prior)

    return float(start * min(TEMPERATURES, key=loss))


@dataclass(frozen=True)
class Reliability:
    """Mean confidence, accuracy and number of clips, by bin of confidence (Guo et al. 2017)."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean difference between confidence and accuracy, weighted by clips."""
        return float((self.count * np.abs(self.confidence - self.accuracy)).sum() / max(1, self.count.sum()))


def reliability(
    confidence: Sequence[float] | np.ndarray, correct: Sequence[bool] | np.ndarray
) -> Reliability:
    """Bin confidences in 0..1 (clips,), and whether each clip was correct, into bins of equal width."""
    confidence, correct = np.asarray(confidence, float), np.asarray(correct, float)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    mean = [np.bincount(bins, values, BINS) / np.maximum(count, 1) for values in (confidence, correct)]
    return Reliability(mean[0], mean[1], count)


def _sample_words(labels: np.ndarray, limit: int, random: np.random.Generator) -> np.ndarray:
    """Up to `limit` rows with a label, in random order, with a few clips per label."""
    order = random.permutation(np.flatnonzero(labels != ""))
    counts: dict[str, int] = {}
    selected = []
    for row in order:
        counts[labels[row]] = counts.get(labels[row], 0) + 1
        if counts[labels[row]] <= MAX_CLIPS_PER_WORD:
            selected.append(row)
    return np.array(selected[:limit], dtype=int)


def _sample(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return random.permutation(rows)[:count]


def _fragment(mels: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    frames = int(random.integers(*FRAGMENT_FRAMES))
    start = int(random.integers(len(mels) - frames + 1))
    return mels[start : start + frames]


def _noise(features: FeatureConfig, random: np.random.Generator) -> torch.Tensor:
    """Steady noise of random level and spectral slope, as features (frames, width). Extra features are 0: no pitch and no
    formants."""
    extras = features.width - features.without_extras.width
    shape = (int(random.integers(*FRAGMENT_FRAMES)), features.without_extras.width)
    if features.kind == "waveform":
        return torch.from_numpy(10 ** random.uniform(-4, -1) * random.standard_normal(shape)).float()
    slope = random.uniform(-3, 3) * np.linspace(-1, 1, features.mels)
    level = random.uniform(LOG_FLOOR, -3.0)
    noise = level + slope + 0.5 * random.standard_normal(shape)
    return F.pad(torch.from_numpy(noise).float().clamp_min(LOG_FLOOR), (0, extras))


def _embed(model: Network, mels: list[torch.Tensor]) -> torch.Tensor:
    return embed_mels(model, mels)[:, 0] if mels else torch.zeros(0, model.config.embedding)
