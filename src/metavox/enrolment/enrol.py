"""A vocabulary from a few clips: one vector a word, a threshold, and what accuracy to expect of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from metavox.adaptation.estimate import assign_folds, proportion
from metavox.enrolment.open_set import extreme_quantile, false_accept_threshold, fitted_sharpness, reliability
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
STRANGERS = 0.35  # similarity to the nearest enrolled word that other words often have; few words show less
SPELLING = (0.0, 0.5, 1.0, 2.0, 4.0)  # weights of the letters that are tried, in logits
FEWEST = 4  # clips that a distribution is fitted to
LARGE = 100  # words; of more, class means are as good as a tuned head and a hundred times faster


@dataclass(frozen=True)
class EnrolConfig:
    """`prototypes` are class means, `head` is tuned from them, `fine-tune` moves the word embedding too where
    held-out clips gain by it.

    `false_accepts` is the share of other words that may be taken for one of these; it needs a model with a
    cohort. With `spelling`, letters that are heard count as far as the clips show that they are right.
    """

    method: Method = "head"
    views: int = 0
    false_accepts: float = 0.05
    folds: int = 5
    spelling: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Support:
    """Embeddings (clips, views, embedding) of clips, their word numbers, and the letters' scores (clips, words)."""

    embedded: torch.Tensor
    labels: torch.Tensor
    letters: torch.Tensor
    words: int

    def head(self, method: Method, chosen: torch.Tensor) -> torch.Tensor:
        """Unit word vectors (words, embedding) that the chosen clips teach."""
        tuned = method != "prototypes" and 1 < self.words <= LARGE
        made = learn_words(
            self.embedded[chosen], self.labels[chosen], self.words, "head" if tuned else "prototypes"
        )
        return F.normalize(made.weight, dim=1)

    def held_out(
        self, cohort: Cohort | None, method: Method, number: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (held out, words) of each clip by the other folds, and which clips these are."""
        scores, clips = [], []
        for fold in range(int(number.max()) + 1):
            outside = torch.from_numpy(np.flatnonzero(number == fold))
            weight = self.head(method, torch.from_numpy(np.flatnonzero(number != fold)))
            scores.append(normalised_scores(cohort, self.embedded[outside, 0], weight))
            clips.append(outside)
        return torch.cat(scores), torch.cat(clips)


def enrol(
    embedder: WordEmbedder,
    audio: Sequence[Audio],
    labels: Sequence[str],
    config: EnrolConfig = EnrolConfig(),
    speakers: Sequence[str] | None = None,
) -> Delta:
    """As `enrol_words`, for any audio that the embedder takes. Raises UserError for an embedder without word pooling."""
    network = embedder.network
    if not isinstance(network, Network):
        raise UserError(
            f"words are enrolled with a conformer, {embedder.spec.name} is a {embedder.spec.kind}; name another base"
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
    """Labelled clips (frames, mel) to a delta that holds one prototype a word and a rejection threshold. Labels that
    `label_key` calls one word are one, in its first spelling.

    `about["expected"]` says what to expect of new clips of these speakers, and `about["expected_voices"]` of other
    speakers where `speakers` names more than one. Raises UserError when there is no clip.
    """
    labels = one_spelling(labels)
    words = tuple(sorted(set(labels)))
    if not words:
        raise UserError("no labelled clip to enrol; expected at least one recording of each word")
    codes = torch.tensor([words.index(label) for label in labels])
    letters = _letters(model, mels, words) if config.spelling and len(words) > 1 else None
    support = Support(
        embed_mels(model, list(mels), config.views, config.seed),
        codes,
        torch.zeros(len(codes), len(words)) if letters is None else letters,
        len(words),
    )
    number = assign_folds([m.contiguous().numpy().tobytes() for m in mels], config.folds, labels)
    about: dict[str, object] = {"kind": "words", "shots": len(labels), "method": config.method}
    moved: dict[str, torch.Tensor] = {}
    if config.method == "fine-tune" and number.max() > 0:
        moved, embedded = tune_embedding(model, mels, codes, len(words), number, config.seed)
        support = Support(embedded, codes, support.letters, len(words))
    enrolled, expected = settle(
        model.cohort, support, number, config, base, words, letters is not None, speakers
    )
    return Delta(base, vocabulary=replace(enrolled, pooling=moved), about=about | expected)


def settle(
    cohort: Cohort | None,
    support: Support,
    number: np.ndarray,
    config: EnrolConfig,
    base: str,
    words: tuple[str, ...],
    spelled: bool = True,
    speakers: Sequence[str] | None = None,
) -> tuple[Vocabulary, dict[str, object]]:
    """Clips through the network already, and the fold of each (clips,), to a vocabulary and what to expect of it."""
    codes = support.labels
    about: dict[str, object] = {}
    weight = support.head(config.method, torch.arange(len(codes)))
    tested = support.held_out(cohort, config.method, number) if number.max() > 0 else None
    ctc_weight = _spelling_weight(support, tested) / LOGIT_SCALE if spelled else 0.0
    threshold = _threshold(cohort, support, weight, ctc_weight, config)
    logit_scale = LOGIT_SCALE
    if tested:
        scores, clips = tested
        scores = scores + ctc_weight * support.letters[clips]
        logit_scale = fitted_sharpness(scores, codes[clips], LOGIT_SCALE)
        about["expected"] = _expected(scores, codes[clips], threshold, logit_scale, int(number.max()) + 1)
    if speakers and len(set(speakers)) > 1 and (other := _by_speaker(cohort, support, config, speakers)):
        scores, clips = other
        scores = scores + ctc_weight * support.letters[clips]
        about["expected_voices"] = _expected(scores, codes[clips], threshold, logit_scale, len(set(speakers)))
    return Vocabulary(base, words, weight, threshold, ctc_weight, logit_scale), about


def _letters(model: Network, mels: Sequence[torch.Tensor], words: Sequence[str]) -> torch.Tensor:
    """(clips, words): how well the letters of each word fit what is heard."""
    rows = []
    with torch.inference_mode():
        for start in range(0, len(mels), 32):
            rows.append(spelling_scores(model, *pad(list(mels[start : start + 32])), words))
    return torch.cat(rows)


def _spelling_weight(support: Support, tested: tuple[torch.Tensor, torch.Tensor] | None) -> float:
    """The weight of the letters under which the clips' own words are likeliest.

    No clip taught the letters, so that all can ask; with one clip a word there is nothing else to ask. A clip
    that is any word keeps a few lucky ones from deciding.
    """
    scores, clips = tested or (torch.zeros_like(support.letters), torch.arange(len(support.labels)))
    labels, letters = support.labels[clips], support.letters[clips]

    def loss(weight: float) -> float:
        logs = (LOGIT_SCALE * scores + weight * letters).log_softmax(dim=1)
        return float(F.nll_loss(logs, labels, reduction="sum") - logs.mean(dim=1).mean())

    return min(SPELLING, key=loss)


def _threshold(
    cohort: Cohort | None,
    support: Support,
    weight: torch.Tensor,
    ctc_weight: float,
    config: EnrolConfig,
) -> float:
    """The score that a clip needs to be a word."""
    if cohort is None:
        scores = support.embedded[:, 0] @ weight.T + ctc_weight * support.letters
        return threshold_of_support(scores, support.labels, STRANGERS if not ctc_weight else -torch.inf)
    bank = cohort.embeddings.float()
    scores = bank @ weight.T - cohort.own_nearest()[:, None]
    if ctc_weight:
        scores = scores + ctc_weight * _strange_letters(support, len(bank), config.seed)
    far = false_accept_threshold(scores.amax(dim=1), config.false_accepts)
    if len(support.labels) < FEWEST or support.words < 2:
        return far
    # Other words of these speakers and this microphone are nearer than the cohort's are: each clip is one to
    # the words that it is not. Not to a tuned head, which was taught that.
    means = support.head("prototypes", torch.arange(len(support.labels)))
    scores = normalised_scores(cohort, support.embedded[:, 0], means) + ctc_weight * support.letters
    others = scores.scatter(1, support.labels[:, None], -torch.inf).amax(dim=1)
    return max(far, extreme_quantile(others, config.false_accepts))


def _strange_letters(support: Support, count: int, seed: int) -> torch.Tensor:
    """(count, words): drawn from what each word's letters scored on clips of the other words."""
    random = np.random.default_rng(seed)
    out = torch.empty(count, support.words)
    for word in range(support.words):
        others = support.letters[support.labels != word, word]
        out[:, word] = others[torch.from_numpy(random.integers(len(others), size=count))]
    return out


def threshold_of_support(scores: torch.Tensor, labels: torch.Tensor, strangers: float = STRANGERS) -> float:
    """Without a cohort: scores (clips, words), labels (clips,) -> what a clip needs to be a word.

    Halfway between clips of different words and clips of one word. Where no word has two clips, nearness to the
    vector that a clip made by itself says nothing: then, nearer than most different words are. The clips
    themselves always pass.
    """
    own = float(scores.gather(1, labels[:, None]).min())
    if scores.shape[1] == 1:
        return min(strangers, own) if len(labels) == 1 else own - 0.25
    apart = float(scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1).quantile(0.9))
    if len(labels) == scores.shape[1]:
        return min(max(apart, strangers), own)
    return (own + apart) / 2 if own > apart else own


def _by_speaker(
    cohort: Cohort | None, support: Support, config: EnrolConfig, speakers: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """As `held_out`, each speaker by the others; None where no word has two speakers."""
    names = sorted(set(speakers))
    number = np.array([names.index(speaker) for speaker in speakers])
    words = support.labels.numpy()
    shared = np.array([len(set(number[words == word])) > 1 for word in words])
    number = np.where(shared, number, -1)
    if not shared.any():
        return None
    return support.held_out(cohort, config.method, number)


def _expected(
    scores: torch.Tensor, labels: torch.Tensor, threshold: float, logit_scale: float, folds: int
) -> dict[str, object]:
    """Accuracy, how many are taken for their word rather than for none, and how far confidences can be believed."""
    best, guess = scores.max(dim=1)
    right = (guess == labels).numpy()
    confidence = (logit_scale * scores).softmax(dim=1).amax(dim=1).numpy()
    return {
        "accuracy": proportion(right),
        "accepted": proportion(right & (best >= threshold).numpy()),
        "calibration_error": reliability(confidence, right).expected_error,
        "clips": len(right),
        "folds": folds,
    }
