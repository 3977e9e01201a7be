"""Enrolment: a vocabulary from a few clips per word, with a vector per word, a threshold and an expected accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from metavox.adaptation.estimate import assign_folds, proportion
from metavox.enrolment.open_set import extreme_quantile, false_accept_threshold, fit_logit_scale, reliability
from metavox.enrolment.prototypes import embed_mels, learn_words
from metavox.enrolment.tune import tune_embedding
from metavox.errors import UserError
from metavox.recognisers.conformer import (
    LOGIT_SCALE,
    Cohort,
    Network,
    normalised_scores,
    pad,
    spelling_scores,
)
from metavox.recognisers.delta import Delta, Vocabulary
from metavox.recognisers.recogniser import Audio, WordEmbedder
from metavox.text import one_spelling

Method = Literal["prototypes", "head", "fine-tune"]
UNKNOWN_SIMILARITY = 0.35  # typical similarity of an unknown word to the nearest enrolled word
CTC_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)  # candidates, in logits
MIN_CLIPS = 4  # needed to fit a distribution
MAX_TUNED_WORDS = 100  # with more words, class means are as good as a tuned head and a hundred times faster


@dataclass(frozen=True)
class EnrolConfig:
    """Options of enrolment.

    `prototypes` are class means, `head` is tuned from them, and `fine-tune` also adapts the word embedding if that
    improves the recognition of held-out clips. `views` perturbed copies of each clip are added. `false_accepts` is the
    share of other words that may be accepted as one of these; it requires a model with a cohort. With `spelling`, the
    CTC score of a label's spelling counts as much as the clips show it to be reliable.
    """

    method: Method = "head"
    views: int = 0
    false_accepts: float = 0.05
    folds: int = 5
    spelling: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Support:
    """Enrolment clips: embeddings (clips, views, embedding), word labels (clips,), and spelling scores (clips, words)."""

    embeddings: torch.Tensor
    labels: torch.Tensor
    spelling_scores: torch.Tensor
    words: int

    def head(self, method: Method, rows: torch.Tensor) -> torch.Tensor:
        """Unit word vectors (words, embedding) learned from the clips `rows`."""
        tuned = method != "prototypes" and 1 < self.words <= MAX_TUNED_WORDS
        head = learn_words(
            self.embeddings[rows], self.labels[rows], self.words, "head" if tuned else "prototypes"
        )
        return F.normalize(head.weight, dim=1)

    def held_out(
        self, cohort: Cohort | None, method: Method, folds: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (held-out clips, words) by vectors learned from the other folds, and the indices of these clips."""
        scores, clips = [], []
        for fold in range(int(folds.max()) + 1):
            held_out_rows = torch.from_numpy(np.flatnonzero(folds == fold))
            weight = self.head(method, torch.from_numpy(np.flatnonzero(folds != fold)))
            scores.append(normalised_scores(cohort, self.embeddings[held_out_rows, 0], weight))
            clips.append(held_out_rows)
        return torch.cat(scores), torch.cat(clips)


def enrol(
    embedder: WordEmbedder,
    audio: Sequence[Audio],
    labels: Sequence[str],
    config: EnrolConfig = EnrolConfig(),
    speakers: Sequence[str] | None = None,
) -> Delta:
    """As `enrol_words`, for any audio that the embedder accepts. Raises UserError if the embedder is not a conformer."""
    network = embedder.network
    if not isinstance(network, Network):
        raise UserError(
            f"words are enrolled with a conformer, but {embedder.spec.name} is a {embedder.spec.kind}; choose another base model"
        )
    mels = [one for one in embedder.prepare(audio) if isinstance(one, torch.Tensor)]
    return enrol_words(network, embedder.spec.digest, mels, labels, config, speakers)


def enrol_words(
    model: Network,
    base: str,
    mels: Sequence[torch.Tensor],
    labels: Sequence[str],
    config: EnrolConfig = EnrolConfig(),
    speakers: Sequence[str] | None = None,
) -> Delta:
    """Learn a delta with one vector per word and a rejection threshold from labelled clips (frames, mel).

    Labels with equal `label_key` are the same word, named by its first spelling. `about["expected"]` is the expected
    accuracy on new clips of these speakers, and `about["expected_voices"]` that on other speakers, if `speakers` names
    more than one. Raises UserError if there is no clip.
    """
    labels = one_spelling(labels)
    words = tuple(sorted(set(labels)))
    if not words:
        raise UserError("no labelled clip to enrol; expected at least one recording of each word")
    codes = torch.tensor([words.index(label) for label in labels])
    spelling = _spelling_scores(model, mels, words) if config.spelling and len(words) > 1 else None
    support = Support(
        embed_mels(model, list(mels), config.views, config.seed),
        codes,
        torch.zeros(len(codes), len(words)) if spelling is None else spelling,
        len(words),
    )
    folds = assign_folds([m.contiguous().numpy().tobytes() for m in mels], config.folds, labels)
    about: dict[str, object] = {"kind": "words", "shots": len(labels), "method": config.method}
    pooling_delta: dict[str, torch.Tensor] = {}
    if config.method == "fine-tune" and folds.max() > 0:
        pooling_delta, embeddings = tune_embedding(model, mels, codes, len(words), folds, config.seed)
        support = Support(embeddings, codes, support.spelling_scores, len(words))
    vocabulary, expected = fit_vocabulary(
        model.cohort, support, folds, config, base, words, spelling is not None, speakers
    )
    return Delta(base, vocabulary=replace(vocabulary, pooling=pooling_delta), about=about | expected)


def fit_vocabulary(
    cohort: Cohort | None,
    support: Support,
    folds: np.ndarray,
    config: EnrolConfig,
    base: str,
    words: tuple[str, ...],
    use_spelling: bool = True,
    speakers: Sequence[str] | None = None,
) -> tuple[Vocabulary, dict[str, object]]:
    """Fit a vocabulary to embedded clips with folds (clips,); returns it with the expected accuracy, as in
    `enrol_words`."""
    codes = support.labels
    about: dict[str, object] = {}
    weight = support.head(config.method, torch.arange(len(codes)))
    held_out_scores = support.held_out(cohort, config.method, folds) if folds.max() > 0 else None
    ctc_weight = _ctc_weight(support, held_out_scores) / LOGIT_SCALE if use_spelling else 0.0
    threshold = _threshold(cohort, support, weight, ctc_weight, config)
    logit_scale = LOGIT_SCALE
    if held_out_scores:
        scores, clips = held_out_scores
        scores = scores + ctc_weight * support.spelling_scores[clips]
        logit_scale = fit_logit_scale(scores, codes[clips], LOGIT_SCALE)
        about["expected"] = _expected(scores, codes[clips], threshold, logit_scale, int(folds.max()) + 1)
    if speakers and len(set(speakers)) > 1 and (by_speaker := _by_speaker(cohort, support, config, speakers)):
        scores, clips = by_speaker
        scores = scores + ctc_weight * support.spelling_scores[clips]
        about["expected_voices"] = _expected(scores, codes[clips], threshold, logit_scale, len(set(speakers)))
    return Vocabulary(base, words, weight, threshold, ctc_weight, logit_scale), about


def _spelling_scores(model: Network, mels: Sequence[torch.Tensor], words: Sequence[str]) -> torch.Tensor:
    """CTC scores (clips, words) of the spelling of each word."""
    rows = []
    with torch.inference_mode():
        for start in range(0, len(mels), 32):
            rows.append(spelling_scores(model, *pad(list(mels[start : start + 32])), words))
    return torch.cat(rows)


def _ctc_weight(support: Support, held_out_scores: tuple[torch.Tensor, torch.Tensor] | None) -> float:
    """The weight of the spelling scores that maximises the likelihood of the correct words.

    Spelling scores are not learned from the clips, so all clips can be used; with one clip per word, only the spelling
    scores are. The mean over all words acts as one additional ambiguous clip, against chance in few clips.
    """
    scores, clips = held_out_scores or (
        torch.zeros_like(support.spelling_scores),
        torch.arange(len(support.labels)),
    )
    labels, spelling = support.labels[clips], support.spelling_scores[clips]

    def loss(weight: float) -> float:
        logs = (LOGIT_SCALE * scores + weight * spelling).log_softmax(dim=1)
        return float(F.nll_loss(logs, labels, reduction="sum") - logs.mean(dim=1).mean())

    return min(CTC_WEIGHTS, key=loss)


def _threshold(
    cohort: Cohort | None,
    support: Support,
    weight: torch.Tensor,
    ctc_weight: float,
    config: EnrolConfig,
) -> float:
    """The score from which a clip is accepted as a word."""
    if cohort is None:
        scores = support.embeddings[:, 0] @ weight.T + ctc_weight * support.spelling_scores
        return threshold_of_support(
            scores, support.labels, UNKNOWN_SIMILARITY if not ctc_weight else -torch.inf
        )
    cohort_embeddings = cohort.embeddings.float()
    scores = cohort_embeddings @ weight.T - cohort.own_nearest()[:, None]
    if ctc_weight:
        scores = scores + ctc_weight * _unknown_spelling_scores(support, len(cohort_embeddings), config.seed)
    cohort_threshold = false_accept_threshold(scores.amax(dim=1), config.false_accepts)
    if len(support.labels) < MIN_CLIPS or support.words < 2:
        return cohort_threshold
    # Other words by the same speakers and microphone are nearer than the cohort. Each clip serves as such an example for
    # all words but its own. This uses prototypes, since a tuned head was trained to separate these clips.
    means = support.head("prototypes", torch.arange(len(support.labels)))
    scores = normalised_scores(cohort, support.embeddings[:, 0], means) + ctc_weight * support.spelling_scores
    other_scores = scores.scatter(1, support.labels[:, None], -torch.inf).amax(dim=1)
    return max(cohort_threshold, extreme_quantile(other_scores, config.false_accepts))


def _unknown_spelling_scores(support: Support, count: int, seed: int) -> torch.Tensor:
    """Random spelling scores (count, words), drawn for each word from those of clips of other words."""
    random = np.random.default_rng(seed)
    out = torch.empty(count, support.words)
    for word in range(support.words):
        other_scores = support.spelling_scores[support.labels != word, word]
        out[:, word] = other_scores[torch.from_numpy(random.integers(len(other_scores), size=count))]
    return out


def threshold_of_support(
    scores: torch.Tensor, labels: torch.Tensor, unknown_similarity: float = UNKNOWN_SIMILARITY
) -> float:
    """The threshold without a cohort, from scores (clips, words) and labels (clips,).

    It lies halfway between the scores for other words and those for the correct word. If no word has two clips, the
    score of a clip for its own vector is uninformative, and the threshold exceeds the scores of most other words
    instead. All enrolment clips are accepted.
    """
    own_score = float(scores.gather(1, labels[:, None]).min())
    if scores.shape[1] == 1:
        return min(unknown_similarity, own_score) if len(labels) == 1 else own_score - 0.25
    other_score = float(scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1).quantile(0.9))
    if len(labels) == scores.shape[1]:
        return min(max(other_score, unknown_similarity), own_score)
    return (own_score + other_score) / 2 if own_score > other_score else own_score


def _by_speaker(
    cohort: Cohort | None, support: Support, config: EnrolConfig, speakers: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """As `Support.held_out`, with a fold for each speaker; None if no word has two speakers."""
    names = sorted(set(speakers))
    folds = np.array([names.index(speaker) for speaker in speakers])
    words = support.labels.numpy()
    shared = np.array([len(set(folds[words == word])) > 1 for word in words])
    folds = np.where(shared, folds, -1)
    if not shared.any():
        return None
    return support.held_out(cohort, config.method, folds)


def _expected(
    scores: torch.Tensor, labels: torch.Tensor, threshold: float, logit_scale: float, folds: int
) -> dict[str, object]:
    """Accuracy, accuracy with rejection by the threshold, and calibration error of scores (clips, words)."""
    best, predicted = scores.max(dim=1)
    correct = (predicted == labels).numpy()
    confidence = (logit_scale * scores).softmax(dim=1).amax(dim=1).numpy()
    return {
        "accuracy": proportion(correct),
        "accepted": proportion(correct & (best >= threshold).numpy()),
        "calibration_error": reliability(confidence, correct).expected_error,
        "clips": len(correct),
        "folds": folds,
    }
