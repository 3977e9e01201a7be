"""The interface of all meta-learners: a pure, differentiable function `(weights, task) -> (adapted weights, loss)`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch.func import vjp

from metavox.training.meta.problem import Problem
from metavox.training.meta.task import Clips, Gradient, Outcome, Task, Weights


@dataclass(frozen=True)
class Learner(ABC):
    """Adapts weights to a task, and computes the gradient that improves the initial weights.

    Weights are a plain mapping of the model's parameters and of the learner's own `meta_parameters`.
    """

    problem: Problem

    @abstractmethod
    def adapt(self, weights: Weights, support: Clips) -> Weights:
        """The weights after learning from `support`; the given weights are not changed."""

    def __call__(self, weights: Weights, task: Task) -> Outcome:
        adapted = self.adapt(weights, task.support)
        return Outcome(adapted, *self.problem.loss(adapted, task.query))

    def gradient(self, weights: Weights, task: Task) -> Gradient:
        """Gradient of the query loss with respect to the initial weights."""

        def loss(updated: Weights) -> tuple[torch.Tensor, torch.Tensor]:
            return self({**weights, **updated}, task)[1:]

        start = {name: weights[name] for name in self.trained_names(weights)}
        value, backward, score = vjp(loss, start, has_aux=True)  # type: ignore[misc]  # has_aux adds a third result
        with torch.no_grad():  # `grad` would keep the graph of the backward pass for further derivatives
            (gradients,) = backward(torch.ones_like(value))
        return Gradient(gradients, value, score)

    def meta_parameters(self) -> dict[str, torch.Tensor]:
        """Initial values of the learner's own parameters, by name; they are trained together with the model's weights."""
        return {}

    def trained_names(self, weights: Weights) -> list[str]:
        """Names of the weights that meta-training updates."""
        trained = {*self.problem.body, *self.problem.head, *self.meta_parameters()}
        return [name for name in weights if name in trained]

    @abstractmethod
    def passes(self, support: int, queries: int) -> float:
        """Cost of a task with these numbers of clips, in forward and backward passes of one clip.

        A forward pass alone counts as a third, the backward pass through an inner step as two.
        """
