"""Meta-learners: train the start so that a few steps from a few clips go a long way.

One interface: a learner takes the model's parameters and a task, adapts on the support set, and gives the
loss of the query set, whose gradient is the meta-gradient. Parameters are plain dictionaries and
the model is called with `torch.func.functional_call`, so nothing is copied and nothing is changed in place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch.func import functional_call
from torch.nn import functional as F

from metavox.corpus.episodes import EpisodeSampler, EpisodeShape, Series
from metavox.learn.joint import JointTask
from metavox.model.recogniser import Recogniser

SCALE = 16.0
HEAD = "head"  # among the weights: the episode's word vectors (way, embedding), adapted like any other
Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Task:
    """Log-mels (clips, time, mel), lengths and labels (clips,) of one episode's two halves."""

    support: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    query: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    way: int


@dataclass(frozen=True)
class Outcome:
    """`loss` carries the meta-gradient in its graph, except where `gradients` holds it."""

    loss: torch.Tensor
    accuracy: float
    gradients: Weights | None = None


class Learner(Protocol):
    """A mapping from weights and a task to adapted weights, and to what they are worth on the queries."""

    def adapt(self, model: Recogniser, weights: Weights, task: Task) -> Weights: ...

    def __call__(self, model: Recogniser, weights: Weights, task: Task) -> Outcome: ...


def embed(model: Recogniser, weights: Weights, mels: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Unit embeddings (clips, embedding) under the given weights."""
    named = {f"model.{name}": value for name, value in weights.items() if name != HEAD}
    return functional_call(_Embedder(model), named, (mels, lengths))


def prototypes(embeddings: torch.Tensor, labels: torch.Tensor, way: int) -> torch.Tensor:
    """Normalised class means (way, embedding)."""
    return F.normalize(F.one_hot(labels, way).to(embeddings.dtype).T @ embeddings, dim=1)


def query_loss(model: Recogniser, weights: Weights, task: Task) -> tuple[torch.Tensor, float]:
    """Cross-entropy and accuracy of the queries against the head in `weights`."""
    mels, lengths, labels = task.query
    logits = SCALE * embed(model, weights, mels, lengths) @ weights[HEAD].T
    return F.cross_entropy(logits, labels), float((logits.argmax(1) == labels).float().mean())


@dataclass(frozen=True)
class ProtoNet:
    """Prototypical networks (Snell et al. 2017): the head is the class means; no inner step."""

    def adapt(self, model: Recogniser, weights: Weights, task: Task) -> Weights:
        mels, lengths, labels = task.support
        return {**weights, HEAD: prototypes(embed(model, weights, mels, lengths), labels, task.way)}

    def __call__(self, model: Recogniser, weights: Weights, task: Task) -> Outcome:
        return Outcome(*query_loss(model, self.adapt(model, weights, task), task))


@dataclass(frozen=True)
class Fomaml:
    """First-order MAML (Finn et al. 2017, section 5.2) from a prototype head (Triantafillou et al. 2020).

    The inner steps' gradients are constants: the meta-gradient is that of the query loss at the adapted
    weights.
    """

    steps: int = 2
    learning_rate: float = 0.05

    def adapt(self, model: Recogniser, weights: Weights, task: Task) -> Weights:
        adapted = ProtoNet().adapt(model, weights, task)
        mels, lengths, labels = task.support
        for _ in range(self.steps):
            names = [name for name in adapted if not name.startswith("ctc.")]
            leaves = {name: adapted[name].detach().requires_grad_(name in names) for name in adapted}
            logits = SCALE * embed(model, leaves, mels, lengths) @ leaves[HEAD].T
            # Words are embedded without the context blocks, so those have no slope.
            slopes = torch.autograd.grad(
                F.cross_entropy(logits, labels), [leaves[n] for n in names], allow_unused=True
            )
            step = {n: slope for n, slope in zip(names, slopes, strict=True) if slope is not None}
            adapted = {n: v - self.learning_rate * step[n] if n in step else v for n, v in adapted.items()}
        return adapted

    def __call__(self, model: Recogniser, weights: Weights, task: Task) -> Outcome:
        return Outcome(*query_loss(model, self.adapt(model, weights, task), task))


@dataclass(frozen=True)
class Reptile:
    """Reptile (Nichol et al. 2018): move towards the weights that training on the whole task leads to."""

    steps: int = 2
    learning_rate: float = 0.05

    def adapt(self, model: Recogniser, weights: Weights, task: Task) -> Weights:
        return Fomaml(self.steps, self.learning_rate).adapt(model, weights, task)

    def __call__(self, model: Recogniser, weights: Weights, task: Task) -> Outcome:
        judged = self.adapt_detached(model, weights, task)
        with torch.no_grad():
            loss, accuracy = query_loss(model, judged, task)
        ways = Task(_joined(task), task.query, task.way)
        after = self.adapt_detached(model, weights, ways)
        scale = 1.0 / (self.steps * self.learning_rate)
        return Outcome(loss, accuracy, {n: (w - after[n]).detach() * scale for n, w in weights.items()})

    def adapt_detached(self, model: Recogniser, weights: Weights, task: Task) -> Weights:
        adapted = self.adapt(model, {n: w.detach() for n, w in weights.items()}, task)
        return {n: w.detach() for n, w in adapted.items()}


def learner(name: str, inner_steps: int, inner_learning_rate: float) -> Learner:
    """The learner that `params.yaml` names."""
    if name == "protonet":
        return ProtoNet()
    if name == "reptile":
        return Reptile(inner_steps, inner_learning_rate)
    return Fomaml(inner_steps, inner_learning_rate)


def _joined(task: Task) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    (a, a_len, a_lab), (b, b_len, b_lab) = task.support, task.query
    time = max(a.shape[1], b.shape[1])
    mels = torch.cat([F.pad(x, (0, 0, 0, time - x.shape[1])) for x in (a, b)])
    return mels, torch.cat([a_len, b_len]), torch.cat([a_lab, b_lab])


class _Embedder(torch.nn.Module):
    """Gives `Recogniser.embed` the `forward` that functional_call needs."""

    def __init__(self, model: Recogniser):
        super().__init__()
        self.model = model

    def forward(self, mels: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.model.embed(mels, lengths)


class MetaTask:
    """Loss of one meta-training step: an episode of words, and the joint task's utterances, so that those are kept."""

    def __init__(self, joint: JointTask, how: Learner, shape: EpisodeShape, seed: int):
        self.joint, self.model, self.how, self.shape, self.seed = joint, joint.model, how, shape, seed
        self.classes = joint.classes
        rows = joint.data.store.rows
        self._labelled = np.flatnonzero(joint.data.labels >= 0)
        words = pd.DataFrame({
            "language": rows["language"], "text": joint.data.labels.astype(str), "voice": rows["voice"],
        }).iloc[self._labelled]  # fmt: skip
        self._episodes = Series(EpisodeSampler(words, shape, mix_languages=True), seed)

    def groups(self) -> list[dict[str, Any]]:
        """As the joint task's, without the word classes: an episode makes its own."""
        return self.joint.groups()[:-1]

    @property
    def clips_a_step(self) -> float:
        """Clips that pass through the network in a step, an inner step's passes counted each."""
        passes = 1 + getattr(self.how, "steps", 0)
        return self.shape.way * (self.shape.shot * passes + self.shape.queries)

    def __call__(self, step: int, random: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        episode = self._episodes(step)
        task = Task(
            self._half(episode.support, episode.support_labels, random),
            self._half(episode.query, episode.query_labels, random), self.shape.way,
        )  # fmt: skip
        weights = dict(self.model.named_parameters())
        outcome = self.how(self.model, weights, task)
        ctc = self.joint.utterances(step, random)
        record = {
            "loss": float(outcome.loss.detach()),
            "ctc": float(ctc.detach()),
            "accuracy": outcome.accuracy,
        }
        if outcome.gradients is None:
            return outcome.loss + ctc, record
        # A loss whose gradient is the one given: the optimizer need not know that the learner is not one.
        surrogate = sum((weights[n] * g).sum() for n, g in outcome.gradients.items())
        return surrogate + ctc, record

    def _half(
        self, rows: np.ndarray, labels: np.ndarray, random: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mels, lengths = self.joint.perturb(*self.joint.data.store.batch(self._labelled[rows]), random)
        return mels, lengths, torch.from_numpy(labels)
