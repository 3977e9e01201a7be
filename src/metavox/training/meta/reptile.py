"""Reptile: move the start towards where training on the whole task leads."""

from dataclasses import dataclass

from metavox.training.meta.inner import inner_step
from metavox.training.meta.learner import Learner
from metavox.training.meta.maml import Maml
from metavox.training.meta.task import Clips, Gradient, Task, Weights


@dataclass(frozen=True)
class Reptile(Learner):
    """Nichol et al. 2018. `steps` on the support set and as many on the queries, the mini-batches of a task.

    Its figures are those of the first pass over the queries, before it has learned from them.
    """

    steps: int = 2
    learning_rate: float = 0.05

    def adapt(self, weights: Weights, support: Clips) -> Weights:
        return Maml(self.problem, self.steps, self.learning_rate, first_order=True).adapt(weights, support)

    def gradient(self, weights: Weights, task: Task) -> Gradient:
        """The way from where the task leads to the start, in parts of the inner rate times the steps."""
        start = {name: value.detach() for name, value in weights.items()}
        after, figures = self.adapt(start, task.support), None
        for _ in range(self.steps):
            after, found = inner_step(
                self.problem, after, task.query, lambda name: self.learning_rate, first_order=True
            )
            figures = figures or found
        assert figures is not None
        scale = 1 / (2 * self.steps * self.learning_rate)
        away = {name: ((start[name] - after[name]) * scale).detach() for name in self.moves(weights)}
        return Gradient(away, figures.loss.detach(), figures.score.detach())

    def passes(self, support: int, queries: int) -> float:
        return self.steps * (support + queries)
