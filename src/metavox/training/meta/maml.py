"""Model-agnostic meta-learning (MAML), first and second order: all weights adapt to a task in a few steps."""

from dataclasses import dataclass
from functools import partial

import torch

from metavox.training.meta.inner import inner_step
from metavox.training.meta.learner import Learner
from metavox.training.meta.task import Clips, Weights


@dataclass(frozen=True)
class Maml(Learner):
    """Finn et al. 2017; on words, the head is initialised with prototypes (Triantafillou et al. 2020, section 3).

    Second order differentiates through the inner steps; `first_order` (FOMAML, section 5.2) treats them as constants.
    """

    steps: int = 2
    learning_rate: float = 0.05
    first_order: bool = False

    def adapt(self, weights: Weights, support: Clips) -> Weights:
        if not self.steps:
            return self.problem.with_head(weights, self.problem.features(weights, support)[0], support)
        rate = partial(self.rate, weights)
        for _ in range(self.steps):
            weights, _ = inner_step(self.problem, weights, support, rate, self.first_order)
        return weights

    def rate(self, weights: Weights, name: str) -> torch.Tensor | float:
        """Learning rate of the inner steps for a weight."""
        return self.learning_rate

    def passes(self, support: int, queries: int) -> float:
        step_passes = 1 if self.first_order else 1 + 2
        head_passes = self.problem.start_passes if self.first_order or not self.steps else 0
        return support * (step_passes * self.steps + head_passes) + queries
