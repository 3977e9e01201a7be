"""The interface of every meta-learner: `(weights, task) -> (adapted weights, loss)`, pure and differentiable."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch.func import vjp

from metavox.training.meta.problem import Problem
from metavox.training.meta.task import Clips, Gradient, Outcome, Task, Weights


@dataclass(frozen=True)
class Learner(ABC):
    """How weights are adapted to a task, and which way the start should move so that they are worth more.

    Weights are a plain mapping: the model's parameters, and what the learner itself has learned (`own`).
    """

    problem: Problem

    @abstractmethod
    def adapt(self, weights: Weights, support: Clips) -> Weights:
        """The weights after learning from `support`; nothing is changed in place."""

    def __call__(self, weights: Weights, task: Task) -> Outcome:
        adapted = self.adapt(weights, task.support)
        return Outcome(adapted, *self.problem.loss(adapted, task.query))

    def gradient(self, weights: Weights, task: Task) -> Gradient:
        """Slope of the queries' loss with respect to the start."""

        def loss(moved: Weights) -> tuple[torch.Tensor, torch.Tensor]:
            return self({**weights, **moved}, task)[1:]

        start = {name: weights[name] for name in self.moves(weights)}
        value, back, score = vjp(loss, start, has_aux=True)  # type: ignore[misc]  # of three where it has an aux
        with torch.no_grad():  # `grad` would keep a graph of the way back, for derivatives that nobody wants
            (slopes,) = back(torch.ones_like(value))
        return Gradient(slopes, value, score)

    def own(self) -> dict[str, torch.Tensor]:
        """Meta-parameters that begin with the learner and are trained with the model's weights."""
        return {}

    def moves(self, weights: Weights) -> list[str]:
        """Names of the weights that meta-training moves."""
        of_task = {*self.problem.body, *self.problem.head, *self.own()}
        return [name for name in weights if name in of_task]

    @abstractmethod
    def passes(self, support: int, queries: int) -> float:
        """Cost of a task of so many clips: passes of one clip through the network and back.

        A pass without the way back is a third of one, the way back through a step of gradient descent two.
        """
