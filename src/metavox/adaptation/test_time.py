"""Test-time adaptation: the model adapts to each recording before it transcribes it, without a label.

It minimises the entropy and the class confusion of the model's own output, as SUTA does for single recordings (Lin, Li,
Lee 2022, section 2). In continual mode the adapted weights are kept for the next recording and reset when they get
worse, as in DSUTA (Lin, Huang, Lee 2024).
"""

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from metavox.recognisers.conformer import BLANK, Network, adapted_embedding, normalised_scores, trainable
from metavox.recognisers.delta import Vocabulary
from metavox.training.loop import step_if_finite

Mode = Literal["episodic", "continual"]
RECENT = 5  # recordings that define the usual entropy


@dataclass(frozen=True)
class TestTimeConfig:
    """At most `steps` steps are taken, and the weights with the lowest loss are kept, including the initial ones.

    `entropy` weighs entropy against class confusion; `temperature` flattens the output first. In `continual` mode, a
    loss of more than `jump` times the recent mean, or an output of only blanks, resets the model.
    """

    __test__ = False  # not a test, despite its name

    mode: Mode = "episodic"
    steps: int = 10
    learning_rate: float = 1e-3
    temperature: float = 2.5
    entropy: float = 0.3
    jump: float = 1.5


class TestTime:
    """A copy of `model` that adapts to each recording; `model` itself is not changed.

    The adapted weights are the normalisations and biases of the encoder, and its front end.
    """

    __test__ = False  # not a test, despite its name

    def __init__(self, model: Network, config: TestTimeConfig = TestTimeConfig()):
        self.config = config
        self.resets = 0
        self._student = copy.deepcopy(model).eval().requires_grad_(False)
        names = {*trainable(self._student, "norms"), *trainable(self._student, "frontend")}
        names = {n for n in names if not n.startswith("ctc.")}
        self._weights = [p for n, p in sorted(self._student.named_parameters()) if n in names]
        for weight in self._weights:
            weight.requires_grad_(True)
        self._base = self._state()
        self._recent_entropies: deque[float] = deque(maxlen=RECENT)

    def characters(self, mels: torch.Tensor) -> Network:
        """The model adapted to one recording, log-mels (frames, mel), for transcription by characters.

        The result is valid until the next call.
        """
        lengths = torch.tensor([len(mels)])
        return self._adapt(lambda: self._student.characters(mels[None], lengths)[0][0], blank=True)

    def words(self, mels: torch.Tensor, vocabulary: Vocabulary) -> Network:
        """As `characters`, for the recognition of the words of `vocabulary`."""
        prototypes, word_embedding = vocabulary.prototypes, adapted_embedding(self._student, vocabulary)
        lengths = torch.tensor([len(mels)])

        def output() -> torch.Tensor:
            scores = normalised_scores(
                self._student.cohort,
                self._student.embed(mels[None], lengths, word=word_embedding),
                prototypes,
            )
            return (vocabulary.logit_scale * scores).log_softmax(dim=1)

        return self._adapt(output, blank=False)

    def _adapt(self, output: Callable[[], torch.Tensor], blank: bool) -> Network:
        """Adapt the student, whose current log-probabilities (frames, classes) `output()` returns."""
        if self.config.mode == "episodic":
            self._restore(self._base)
        optimizer = torch.optim.AdamW(self._weights, self.config.learning_rate)
        best, best_loss = self._state(), float("inf")
        initial_loss = 0.0
        for step in range(self.config.steps + 1):
            log_probs = output()
            loss = entropy_confusion_loss(log_probs, self.config.temperature, self.config.entropy, blank)
            value = float(loss.detach())
            initial_loss = initial_loss if step else value
            if step == 0 and self._is_worse(value, log_probs, blank):
                self._restore(self._base)
                self._recent_entropies.clear()
                self.resets += 1
                return self._student
            if value < best_loss:
                best, best_loss = self._state(), value
            if step < self.config.steps and loss.requires_grad:
                step_if_finite(loss, optimizer, self._weights)
        self._restore(best)
        self._recent_entropies.append(initial_loss)
        return self._student

    def _is_worse(self, value: float, log_probs: torch.Tensor, blank: bool) -> bool:
        """Whether the weights adapted to earlier recordings give an unusually high loss, or only blanks, on this one."""
        if self.config.mode == "episodic" or len(self._recent_entropies) < RECENT:
            return False
        silent = blank and bool((log_probs.argmax(dim=1) == BLANK).all())
        return silent or value > self.config.jump * sum(self._recent_entropies) / len(self._recent_entropies)

    def _state(self) -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in self._weights]

    def _restore(self, state: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self._weights, state, strict=True):
                weight.copy_(value)


def entropy_confusion_loss(
    log_probs: torch.Tensor, temperature: float, entropy: float, blank: bool = True
) -> torch.Tensor:
    """Weighted sum of the entropy and the class confusion of log-probabilities (frames, classes), a scalar.

    With `blank`, the entropy leaves out blank frames, which are frequent and already certain (SUTA, section 2.2). Class
    confusion (Jin et al. 2020) is the off-diagonal part of the correlation of classes over frames.
    """
    probabilities = (log_probs / temperature).softmax(dim=1)
    entropies = -(probabilities * probabilities.clamp_min(1e-9).log()).sum(dim=1)
    non_blank = log_probs.argmax(dim=1) != BLANK if blank else torch.ones(len(log_probs), dtype=torch.bool)
    mean_entropy = entropies[non_blank].mean() if non_blank.any() else entropies.mean()
    weights = 1 + (-entropies.detach()).exp()
    weighted = probabilities * (weights / weights.sum() * len(probabilities))[:, None]
    confusion_matrix = weighted.T @ probabilities
    confusion_matrix = confusion_matrix / confusion_matrix.sum(dim=1, keepdim=True).clamp_min(1e-9)
    confusion = (confusion_matrix.sum() - confusion_matrix.diagonal().sum()) / confusion_matrix.shape[0]
    return entropy * mean_entropy + (1 - entropy) * confusion
