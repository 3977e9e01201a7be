"""Test-time adaptation: a recogniser adapts to each recording before it transcribes it, without a label.

Two objectives, for every kind of recogniser:

- `entropy`: the entropy and the class confusion of the recogniser's own predictions, as SUTA does for single recordings
  (Lin, Li, Lee 2022, section 2). A decoder's predictions are those along its own greedy transcript, as SGEM's are along
  that of a beam search (Kim et al. 2023, section 3); entropy on the normalisations alone is Tent (Wang et al. 2021).
- `pseudo-labels`: the recogniser's own transcript, if it is confident of it, is the label of gently perturbed copies
  (consistency, as in the noisy student of Xie et al. 2020).

In continual mode the adapted weights are kept for the next recording and reset when they get worse, as in DSUTA (Lin,
Huang, Lee 2024, section 3).
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from metavox.recognisers.delta import Vocabulary
from metavox.recognisers.lora import set_weight, shared_view
from metavox.recognisers.recogniser import Audio, Predictions, Recogniser, WordEmbedder
from metavox.training.loop import step_if_finite

Mode = Literal["episodic", "continual"]
Objective = Literal["entropy", "pseudo-labels"]
R = TypeVar("R", bound=Recogniser)
RECENT = 5  # recordings that define the usual doubt
LEAST_DOUBT = 0.05  # a smaller usual doubt would let every ordinary sentence count as a jump
COPIES = 2  # perturbed copies per step on a pseudo-label


@dataclass(frozen=True)
class TestTimeConfig:
    """At most `steps` steps of AdamW at `learning_rate` are taken on a recording.

    For the objective `entropy`, the weights with the lowest loss are kept, including the initial ones; `entropy` weighs
    entropy against class confusion, and `temperature` flattens the predictions first. A pseudo-label is learned from a
    `confidence` upwards (mean probability of its tokens), and `seed` draws its perturbations. In `continual` mode, a
    doubt (loss, or negative log-confidence) of more than `jump` times the recent mean, or an empty transcript, resets
    the recogniser.
    """

    __test__ = False  # not a test, despite its name

    mode: Mode = "episodic"
    steps: int = 10
    learning_rate: float = 1e-3
    temperature: float = 2.5
    entropy: float = 0.3
    jump: float = 1.5
    objective: Objective = "entropy"
    confidence: float = 0.6
    seed: int = 0


class TestTime(Generic[R]):
    """A view of `base` that adapts to each recording; `base` itself is not changed.

    The adapted weights are the normalisations and biases, and the front end of a kind that has a trainable one, but not
    the output layer. `resets` counts the resets, `skipped` the recordings that were not learned from.
    """

    __test__ = False  # not a test, despite its name

    def __init__(self, base: R, config: TestTimeConfig = TestTimeConfig()):
        self.config = config
        self.resets = self.skipped = 0
        network = shared_view(base.network)
        self._student = base.with_network(network)
        self._weights = [
            set_weight(network, name, network.get_parameter(name).detach().clone())
            for name in adapted_weights(base)
        ]
        self._base = self._state()
        self._recent_doubts: deque[float] = deque(maxlen=RECENT)

    def adapted(self, audio: Audio) -> R:
        """The recogniser adapted to one recording of up to `spec.longest_s`, valid until the next call.

        A recording without a transcript is not learned from. Raises UserError for one that is too long.
        """
        self._begin()
        (prepared,) = self._student.prepare([audio])
        (transcript,) = self._student.transcribe([prepared])
        student, text = (
            self._student.for_language(transcript.language),
            self._student.writable(transcript.text),
        )
        if not text:
            self.skipped += 1
            if self._recent_doubts and self.config.mode == "continual":
                self._reset()
        elif self.config.objective == "entropy":
            self._lower_doubt(lambda: student.predictions(prepared, text))
        elif self._still_good(-math.log(max(transcript.confidence, 1e-9))):
            if transcript.confidence >= self.config.confidence:
                self._imitate(student, prepared, text)
            else:
                self.skipped += 1
        return self._student

    def adapted_to_word(self: "TestTime[WordEmbedder]", audio: Audio, vocabulary: Vocabulary) -> WordEmbedder:
        """As `adapted`, for the recognition of the words of `vocabulary`, by entropy."""
        self._begin()
        prepared = self._student.prepare([audio])

        def output() -> Predictions:
            log_probs = self._student.word_log_probs(vocabulary, prepared)
            return Predictions(log_probs, torch.ones(len(log_probs), dtype=torch.bool))

        self._lower_doubt(output)
        return self._student

    def _begin(self) -> None:
        if self.config.mode == "episodic":
            self._restore(self._base)

    def _lower_doubt(self, output: Callable[[], Predictions]) -> None:
        """Lower the entropy and confusion of what `output()` predicts with the current weights."""
        with _Learning(self._weights):
            optimizer = torch.optim.AdamW(self._weights, self.config.learning_rate)
            loss = self._loss(output())
            best, best_value = self._state(), float(loss.detach())
            if not self._still_good(best_value):
                return
            for _ in range(self.config.steps):
                step_if_finite(loss, optimizer, self._weights)
                loss = self._loss(output())
                if (value := float(loss.detach())) < best_value:
                    best, best_value = self._state(), value
            self._restore(best)

    def _loss(self, predictions: Predictions) -> torch.Tensor:
        return entropy_confusion_loss(predictions, self.config.temperature, self.config.entropy)

    def _imitate(self, student: R, audio: Audio, text: str) -> None:
        """Learn that perturbed copies of the recording have the text too."""
        random = np.random.default_rng(self.config.seed)  # the same for each recording, whatever came before
        with _Learning(self._weights):
            optimizer = torch.optim.AdamW(self._weights, self.config.learning_rate)
            for _ in range(self.config.steps):
                copies = student.perturb([audio] * COPIES, random)
                step_if_finite(student.loss(copies, [text] * COPIES), optimizer, self._weights)

    def _still_good(self, doubt: float) -> bool:
        """Whether the weights that earlier recordings adapted give no unusual doubt on this one; resets if they do."""
        usual = max(LEAST_DOUBT, sum(self._recent_doubts) / max(1, len(self._recent_doubts)))
        if (
            self.config.mode == "continual"
            and len(self._recent_doubts) == RECENT
            and doubt > self.config.jump * usual
        ):
            self._reset()
            return False
        self._recent_doubts.append(doubt)
        return True

    def _reset(self) -> None:
        self._restore(self._base)
        self._recent_doubts.clear()
        self.resets += 1

    def _state(self) -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in self._weights]

    def _restore(self, state: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self._weights, state, strict=True):
                weight.copy_(value)


class _Learning:
    """A context in which weights require gradients, as a recogniser's otherwise never do."""

    def __init__(self, weights: list[nn.Parameter]):
        self.weights = weights

    def __enter__(self) -> None:
        for weight in self.weights:
            weight.requires_grad_(True)

    def __exit__(self, *_: object) -> None:
        for weight in self.weights:
            weight.requires_grad_(False).grad = None


def adapted_weights(recogniser: Recogniser) -> list[str]:
    """Names of the weights that adapt at test time, sorted."""
    presets = recogniser.spec.presets
    names = {
        name
        for preset in presets
        if preset in ("norms", "frontend")
        for name in recogniser.adapter_targets(preset)
    }
    return sorted(names - set(recogniser.adapter_targets("head") if "head" in presets else ()))


def entropy_confusion_loss(predictions: Predictions, temperature: float, entropy: float) -> torch.Tensor:
    """Weighted sum of the entropy and the class confusion of predictions, a scalar.

    The entropy counts only what is written (SUTA, section 2.2: blank frames are frequent and already certain), or all
    positions if nothing is. Class confusion (Jin et al. 2020) is the off-diagonal part of the correlation of classes
    over positions.
    """
    probabilities = (predictions.log_probs / temperature).softmax(dim=1)
    entropies = -(probabilities * probabilities.clamp_min(1e-9).log()).sum(dim=1)
    written = predictions.written
    mean_entropy = entropies[written].mean() if written.any() else entropies.mean()
    if entropy == 1:
        return mean_entropy
    weights = 1 + (-entropies.detach()).exp()
    weighted = probabilities * (weights / weights.sum() * len(probabilities))[:, None]
    # The correlation's rows sum to those of `weighted`, so that its diagonal suffices: a decoder's classes are too many
    # for the whole.
    diagonal = (weighted * probabilities).sum(dim=0) / weighted.sum(dim=0).clamp_min(1e-9)
    return entropy * mean_entropy + (1 - entropy) * (1 - diagonal.mean())
