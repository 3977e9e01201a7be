"""Test-time adaptation: the recordings that are to be recognised, without a label, move the model first.

Entropy minimisation and minimum class confusion on the model's own output: SUTA (Lin, Li, Lee 2022, section 2),
of one recording at a time; kept from recording to recording and reset when it goes wrong, as DSUTA does
(Lin, Huang, Lee 2024).
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
MEMORY = 5  # recordings whose entropy is what is usual


@dataclass(frozen=True)
class TestTimeConfig:
    """`steps` at most; the one after which the model was surest is kept, none among the choices.

    `entropy` weighs entropy against class confusion; `temperature` flattens the output first. In `continual`
    mode an entropy `jump` times what is usual, or frames that all are blank, brings the base model back.
    """

    __test__ = False  # no test, whatever its name

    mode: Mode = "episodic"
    steps: int = 10
    learning_rate: float = 1e-3
    temperature: float = 2.5
    entropy: float = 0.3
    jump: float = 1.5


class TestTime:
    """A model that moves with what it hears; `model` itself stays as it is.

    The weights that move are normalisations and biases of the encoder, and its front end.
    """

    __test__ = False  # no test, whatever its name

    def __init__(self, model: Network, config: TestTimeConfig = TestTimeConfig()):
        self.config = config
        self.resets = 0
        self._student = copy.deepcopy(model).eval().requires_grad_(False)
        names = {*trainable(self._student, "norms"), *trainable(self._student, "frontend")}
        names = {n for n in names if not n.startswith("ctc.")}
        self._moving = [p for n, p in sorted(self._student.named_parameters()) if n in names]
        for weight in self._moving:
            weight.requires_grad_(True)
        self._base = self._state()
        self._usual: deque[float] = deque(maxlen=MEMORY)

    def characters(self, mels: torch.Tensor) -> Network:
        """Log-mels (frames, mel) of one recording -> the model that has moved towards it, for its letters.

        Valid until the next call.
        """
        lengths = torch.tensor([len(mels)])
        return self._move(lambda: self._student.characters(mels[None], lengths)[0][0], blank=True)

    def words(self, mels: torch.Tensor, enrolled: Vocabulary) -> Network:
        """As `characters`, towards being sure of one of the enrolled words."""
        prototypes, word = enrolled.prototypes, adapted_embedding(self._student, enrolled)
        lengths = torch.tensor([len(mels)])

        def output() -> torch.Tensor:
            scores = normalised_scores(
                self._student.cohort, self._student.embed(mels[None], lengths, word=word), prototypes
            )
            return (enrolled.logit_scale * scores).log_softmax(dim=1)

        return self._move(output, blank=False)

    def _move(self, output: Callable[[], torch.Tensor], blank: bool) -> Network:
        """`output()` gives log-probabilities (frames, classes) of the student as it is."""
        if self.config.mode == "episodic":
            self._restore(self._base)
        optimizer = torch.optim.AdamW(self._moving, self.config.learning_rate)
        best, best_loss = self._state(), float("inf")
        first = 0.0
        for step in range(self.config.steps + 1):
            log_probs = output()
            loss = sureness_loss(log_probs, self.config.temperature, self.config.entropy, blank)
            value = float(loss.detach())
            first = first if step else value
            if step == 0 and self._wrong(value, log_probs, blank):
                self._restore(self._base)
                self._usual.clear()
                self.resets += 1
                return self._student
            if value < best_loss:
                best, best_loss = self._state(), value
            if step < self.config.steps and loss.requires_grad:
                step_if_finite(loss, optimizer, self._moving)
        self._restore(best)
        self._usual.append(first)
        return self._student

    def _wrong(self, value: float, log_probs: torch.Tensor, blank: bool) -> bool:
        """Whether what came of the recordings before makes this one worse than usual, or nothing at all."""
        if self.config.mode == "episodic" or len(self._usual) < MEMORY:
            return False
        silent = blank and bool((log_probs.argmax(dim=1) == BLANK).all())
        return silent or value > self.config.jump * sum(self._usual) / len(self._usual)

    def _state(self) -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in self._moving]

    def _restore(self, state: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self._moving, state, strict=True):
                weight.copy_(value)


def sureness_loss(
    log_probs: torch.Tensor, temperature: float, entropy: float, blank: bool = True
) -> torch.Tensor:
    """Log-probabilities (frames, classes) -> entropy, and how often pairs of classes are mixed up.

    Entropy is of frames that are not `blank`, which are many and sure already (SUTA, section 2.2). Class confusion
    (Jin et al. 2020) is what the classes' correlation over frames has off its diagonal.
    """
    chances = (log_probs / temperature).softmax(dim=1)
    each = -(chances * chances.clamp_min(1e-9).log()).sum(dim=1)
    spoken = log_probs.argmax(dim=1) != BLANK if blank else torch.ones(len(log_probs), dtype=torch.bool)
    least = each[spoken].mean() if spoken.any() else each.mean()
    certain = 1 + (-each.detach()).exp()
    weighted = chances * (certain / certain.sum() * len(chances))[:, None]
    together = weighted.T @ chances
    together = together / together.sum(dim=1, keepdim=True).clamp_min(1e-9)
    confusion = (together.sum() - together.diagonal().sum()) / together.shape[0]
    return entropy * least + (1 - entropy) * confusion
