"""Words that nobody enrolled: a cohort to compare with, a threshold for a share of false accepts, and
confidences that mean what they say."""

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

LONGEST_WORD, FRAGMENT = 300, (50, 120)  # frames
CLIPS_A_WORD = 8
NOISES = 0.05  # share of the cohort that is no speech
FRAGMENTS = 0.2  # and that is a piece of a sentence
TEMPERATURES = np.geomspace(0.25, 4.0, 33)
BINS = 10


def build_cohort(model: Network, store: Store, count: int = 2000, seed: int = 0) -> None:
    """Give the model a cohort of up to `count` embeddings of clean training rows of `store`, in place.

    Words, pieces of sentences and noises; the words also say how to whiten the embeddings, four times `count`
    of them where there are. `save_model` keeps it and `load_model` brings it back. Raises UserError when there
    are not two words of two clips.
    """
    random = np.random.default_rng(seed)
    rows = store.rows
    labels = word_labels(rows).where(rows["frames"].between(1, LONGEST_WORD), "").to_numpy()
    words = _spread(labels, 4 * count, random)
    names, codes = np.unique(labels[words], return_inverse=True)
    if (np.bincount(codes) > 1).sum() < 2:
        raise UserError(
            f"cohort: {len(names)} words of clean training rows, fewer than two of them said twice; "
            "expected a training set with words"
        )
    model.cohort, model.config = None, replace(model.config, cohort=0)
    embedded = _embed(model, [store[int(i)] for i in words])
    mean = embedded.mean(dim=0)
    whiten = within_class_whitening(embedded - mean, torch.from_numpy(codes))
    long = np.flatnonzero((rows["unit"] == "sentence").to_numpy() & (rows["frames"] > FRAGMENT[1]).to_numpy())
    segment_recording = [_piece(store[int(i)], random) for i in _some(long, round(FRAGMENTS * count), random)]
    noises = [_noise(model.config.features, random) for _ in range(round(NOISES * count))]
    others = _embed(model, segment_recording + noises)
    each_once = np.unique(codes, return_index=True)[1]  # a word's other clips would pass for its likeness
    kept = random.permutation(each_once)[: max(0, count - len(others))]
    chosen = torch.cat([others, embedded[kept]])
    bank = Cohort(len(chosen), model.config.embedding)
    bank.mean.copy_(mean)
    bank.whiten.copy_(whiten)
    bank.embeddings.copy_(bank(chosen))
    model.cohort, model.config = bank.eval(), replace(model.config, cohort=len(chosen))


def false_accept_threshold(scores: torch.Tensor, rate: float) -> float:
    """Best scores (clips,) of clips that are none of the words -> what a share `rate` of them reaches."""
    return float(scores.double().quantile(1 - rate))


def extreme_quantile(scores: torch.Tensor, rate: float) -> float:
    """As `false_accept_threshold`, from too few scores to hold such a share: of a Gumbel distribution with their
    mean and spread, as the best of several scores tends to have."""
    spread = float(scores.std()) * math.sqrt(6) / math.pi
    return float(scores.mean()) + spread * (-np.euler_gamma - math.log(-math.log1p(-rate)))


def fitted_sharpness(scores: torch.Tensor, labels: torch.Tensor, start: float) -> float:
    """Held-out scores (clips, words), labels (clips,) -> the factor that makes them logits of least
    cross-entropy: temperature scaling (Guo et al. 2017), within a factor of four of `start`.

    One more clip that is wrong by chance keeps a few right ones from making it sure of everything.
    """
    if scores.shape[1] < 2 or not len(scores):
        return start

    def loss(factor: float) -> float:
        logs = (factor * start * scores).log_softmax(dim=1)
        doubt = -logs.mean(dim=1).mean()
        return float(torch.nn.functional.nll_loss(logs, labels, reduction="sum") + doubt)

    return float(start * min(TEMPERATURES, key=loss))


@dataclass(frozen=True)
class Reliability:
    """By bin of confidence: its mean, the share that was right, and how many clips (Guo et al. 2017)."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean distance of confidence from accuracy, over clips."""
        return float((self.count * np.abs(self.confidence - self.accuracy)).sum() / max(1, self.count.sum()))


def reliability(confidence: Sequence[float] | np.ndarray, right: Sequence[bool] | np.ndarray) -> Reliability:
    """Confidences in 0..1 and whether each clip was right -> bins of equal width."""
    confidence, right = np.asarray(confidence, float), np.asarray(right, float)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    mean = [np.bincount(bins, values, BINS) / np.maximum(count, 1) for values in (confidence, right)]
    return Reliability(mean[0], mean[1], count)


def _spread(labels: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Rows with a label in random order, a few of each, `most` at most."""
    order = random.permutation(np.flatnonzero(labels != ""))
    seen: dict[str, int] = {}
    chosen = []
    for row in order:
        seen[labels[row]] = seen.get(labels[row], 0) + 1
        if seen[labels[row]] <= CLIPS_A_WORD:
            chosen.append(row)
    return np.array(chosen[:most], dtype=int)


def _some(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return random.permutation(rows)[:count]


def _piece(mels: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    frames = int(random.integers(*FRAGMENT))
    start = int(random.integers(len(mels) - frames + 1))
    return mels[start : start + frames]


def _noise(features: FeatureConfig, random: np.random.Generator) -> torch.Tensor:
    """A steady noise of random level and slope, as features (frames, width); its extras are 0: no pitch, no formants."""
    extras = features.width - features.without_extras.width
    shape = (int(random.integers(*FRAGMENT)), features.without_extras.width)
    if features.kind == "waveform":
        return torch.from_numpy(10 ** random.uniform(-4, -1) * random.standard_normal(shape)).float()
    slope = random.uniform(-3, 3) * np.linspace(-1, 1, features.mels)
    level = random.uniform(LOG_FLOOR, -3.0)
    noise = level + slope + 0.5 * random.standard_normal(shape)
    return F.pad(torch.from_numpy(noise).float().clamp_min(LOG_FLOOR), (0, extras))


def _embed(model: Network, mels: list[torch.Tensor]) -> torch.Tensor:
    return embed_mels(model, mels)[:, 0] if mels else torch.zeros(0, model.config.embedding)
