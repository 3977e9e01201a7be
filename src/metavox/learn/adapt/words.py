"""A vocabulary from a few clips: one vector a word, a threshold, and what accuracy to expect of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from metavox.errors import UserError
from metavox.learn.adapt.estimate import fold_numbers, proportion
from metavox.learn.adapt.tune import tune_embedding
from metavox.learn.openset import extreme_quantile, false_accept_threshold, fitted_sharpness, reliability
from metavox.learn.words import embed_mels, learn_words
from metavox.recognisers.conformer.delta import Delta
from metavox.recognisers.conformer.enrolled import SCALE, fit, spelled
from metavox.recognisers.conformer.network import Network, pad

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
    background. With `spelling`, letters that are heard count as far as the clips show that they are right.
    """

    method: Method = "head"
    views: int = 0
    false_accepts: float = 0.05
    folds: int = 5
    spelling: bool = True
    seed: int = 0


@dataclass(frozen=True)
class _Support:
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
        self, model: Network, method: Method, number: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (held out, words) of each clip by the other folds, and which clips these are."""
        scores, clips = [], []
        for fold in range(int(number.max()) + 1):
            outside = torch.from_numpy(np.flatnonzero(number == fold))
            weight = self.head(method, torch.from_numpy(np.flatnonzero(number != fold)))
            scores.append(fit(model, self.embedded[outside, 0], weight))
            clips.append(outside)
        return torch.cat(scores), torch.cat(clips)


def enrol_words(
    model: Network, base: str, mels: Sequence[torch.Tensor], labels: Sequence[str],
    config: EnrolConfig = EnrolConfig(), voices: Sequence[str] | None = None,
) -> Delta:  # fmt: skip
    """Labelled clips (frames, mel) to a delta that holds one prototype a word and a rejection threshold.

    `about["expected"]` says what to expect of new clips of these voices, and `about["expected_voices"]` of other
    voices where `voices` names more than one. Raises UserError when there is no clip.
    """
    words = tuple(sorted(set(labels)))
    if not words:
        raise UserError("no labelled clip to enrol; expected at least one recording of each word")
    codes = torch.tensor([words.index(label) for label in labels])
    letters = _letters(model, mels, words) if config.spelling and len(words) > 1 else None
    support = _Support(
        embed_mels(model, list(mels), config.views, config.seed), codes,
        torch.zeros(len(codes), len(words)) if letters is None else letters, len(words),
    )  # fmt: skip
    number = fold_numbers(mels, config.folds, labels)
    about: dict[str, object] = {"kind": "words", "shots": len(labels), "method": config.method}
    moved: dict[str, torch.Tensor] = {}
    if config.method == "fine-tune" and number.max() > 0:
        moved, embedded = tune_embedding(model, mels, codes, len(words), number, config.seed)
        support = _Support(embedded, codes, support.letters, len(words))
    weight = support.head(config.method, torch.arange(len(codes)))
    tested = support.held_out(model, config.method, number) if number.max() > 0 else None
    spelling = 0.0 if letters is None else _spelling_weight(support, tested) / SCALE
    threshold = _threshold(model, support, weight, spelling, config)
    sharpness = SCALE
    if tested:
        scores, clips = tested
        scores = scores + spelling * support.letters[clips]
        sharpness = fitted_sharpness(scores, codes[clips], SCALE)
        about["expected"] = _expected(scores, codes[clips], threshold, sharpness, int(number.max()) + 1)
    if voices and len(set(voices)) > 1 and (other := _by_voice(model, support, config, voices)):
        scores, clips = other
        scores = scores + spelling * support.letters[clips]
        about["expected_voices"] = _expected(scores, codes[clips], threshold, sharpness, len(set(voices)))
    return Delta(
        base, moved, words=words, prototypes=weight, threshold=threshold, about=about,
        spelling=spelling, sharpness=sharpness,
    )  # fmt: skip


def _letters(model: Network, mels: Sequence[torch.Tensor], words: Sequence[str]) -> torch.Tensor:
    """(clips, words): how well the letters of each word fit what is heard."""
    rows = []
    with torch.inference_mode():
        for start in range(0, len(mels), 32):
            rows.append(spelled(model, *pad(list(mels[start : start + 32])), words))
    return torch.cat(rows)


def _spelling_weight(support: _Support, tested: tuple[torch.Tensor, torch.Tensor] | None) -> float:
    """The weight of the letters under which the clips' own words are likeliest.

    No clip taught the letters, so that all can ask; with one clip a word there is nothing else to ask. A clip
    that is any word keeps a few lucky ones from deciding.
    """
    scores, clips = tested or (torch.zeros_like(support.letters), torch.arange(len(support.labels)))
    labels, letters = support.labels[clips], support.letters[clips]

    def loss(weight: float) -> float:
        logs = (SCALE * scores + weight * letters).log_softmax(dim=1)
        return float(F.nll_loss(logs, labels, reduction="sum") - logs.mean(dim=1).mean())

    return min(SPELLING, key=loss)


def _threshold(
    model: Network, support: _Support, weight: torch.Tensor, spelling: float, config: EnrolConfig
) -> float:
    """The score that a clip needs to be a word."""
    if model.background is None:
        scores = support.embedded[:, 0] @ weight.T + spelling * support.letters
        return threshold_of_support(scores, support.labels, STRANGERS if not spelling else -torch.inf)
    bank = model.background.embeddings.float()
    scores = bank @ weight.T - model.background.cohort(bank, skip=1)[:, None]
    if spelling:
        scores = scores + spelling * _strange_letters(support, len(bank), config.seed)
    far = false_accept_threshold(scores.amax(dim=1), config.false_accepts)
    if len(support.labels) < FEWEST or support.words < 2:
        return far
    # Other words of these voices and this microphone are nearer than the background's are: each clip is one to
    # the words that it is not. Not to a tuned head, which was taught that.
    means = support.head("prototypes", torch.arange(len(support.labels)))
    scores = fit(model, support.embedded[:, 0], means) + spelling * support.letters
    others = scores.scatter(1, support.labels[:, None], -torch.inf).amax(dim=1)
    return max(far, extreme_quantile(others, config.false_accepts))


def _strange_letters(support: _Support, count: int, seed: int) -> torch.Tensor:
    """(count, words): drawn from what each word's letters scored on clips of the other words."""
    random = np.random.default_rng(seed)
    out = torch.empty(count, support.words)
    for word in range(support.words):
        others = support.letters[support.labels != word, word]
        out[:, word] = others[torch.from_numpy(random.integers(len(others), size=count))]
    return out


def threshold_of_support(scores: torch.Tensor, labels: torch.Tensor, strangers: float = STRANGERS) -> float:
    """Without a background: scores (clips, words), labels (clips,) -> what a clip needs to be a word.

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


def _by_voice(
    model: Network, support: _Support, config: EnrolConfig, voices: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """As `held_out`, each voice by the others; None where no word has two voices."""
    names = sorted(set(voices))
    number = np.array([names.index(voice) for voice in voices])
    words = support.labels.numpy()
    shared = np.array([len(set(number[words == word])) > 1 for word in words])
    number = np.where(shared, number, -1)
    if not shared.any():
        return None
    return support.held_out(model, config.method, number)


def _expected(
    scores: torch.Tensor, labels: torch.Tensor, threshold: float, sharpness: float, folds: int
) -> dict[str, object]:
    """Accuracy, how many are taken for their word rather than for none, and how far confidences can be believed."""
    best, guess = scores.max(dim=1)
    right = (guess == labels).numpy()
    confidence = (sharpness * scores).softmax(dim=1).amax(dim=1).numpy()
    return {
        "accuracy": proportion(right), "accepted": proportion(right & (best >= threshold).numpy()),
        "calibration_error": reliability(confidence, right).expected_error, "clips": len(right), "folds": folds,
    }  # fmt: skip
