"""Model-agnostic meta-learning: all weights of a start from which a few steps lead far."""

from dataclasses import dataclass
from functools import partial

import torch

from metavox.training.meta.inner import inner_step
from metavox.training.meta.learner import Learner
from metavox.training.meta.task import Clips, Weights


@dataclass(frozen=True)
class Maml(Learner):
    """Finn et al. 2017; words begin from a prototype head (Triantafillou et al. 2020, section 3).

    Second order differentiates through the steps; `first_order` (FOMAML, section 5.2) takes them for constants.
    """

    steps: int = 2
    learning_rate: float = 0.05
    first_order: bool = False

    def adapt(self, weights: Weights, support: Clips) -> Weights:
        if not self.steps:
            return self.problem.begin(weights, self.problem.features(weights, support)[0], support)
        rate = partial(self.rate, weights)
        for _ in range(self.steps):
            weights, _ = inner_step(self.problem, weights, support, rate, self.first_order)
        return weights

    def rate(self, weights: Weights, name: str) -> torch.Tensor | float:
        """Of the inner steps, for the weight of that name."""
        return self.learning_rate

    def passes(self, support: int, queries: int) -> float:
        each = 1 if self.first_order else 1 + 2
        begin = self.problem.start_passes if self.first_order or not self.steps else 0
        return support * (each * self.steps + begin) + queries
