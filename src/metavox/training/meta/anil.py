"""ANIL (almost no inner loop): only the head adapts to a task, on features computed in a single pass."""

from dataclasses import dataclass

import torch
from torch.func import grad

from metavox.training.meta.learner import Learner
from metavox.training.meta.task import Clips, Weights


@dataclass(frozen=True)
class Anil(Learner):
    """Raghu et al. 2020. Second order, at almost no cost, because the steps do not pass through the network."""

    steps: int = 5
    learning_rate: float = 0.05

    def adapt(self, weights: Weights, support: Clips) -> Weights:
        features, lengths = self.problem.features(weights, support)
        weights = self.problem.with_head(weights, features, support)

        def loss(head: Weights) -> torch.Tensor:
            return self.problem.head_loss({**weights, **head}, features, lengths, support)[0]

        head = {name: weights[name] for name in self.problem.head}
        for _ in range(self.steps):
            gradients = grad(loss)(head)
            head = {name: value - self.learning_rate * gradients[name] for name, value in head.items()}
        return {**weights, **head}

    def passes(self, support: int, queries: int) -> float:
        return support + queries
