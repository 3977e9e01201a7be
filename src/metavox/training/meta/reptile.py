"""Reptile: the initial weights move towards the weights after training on the whole task."""

from dataclasses import dataclass

from metavox.training.meta.inner import inner_step
from metavox.training.meta.learner import Learner
from metavox.training.meta.maml import Maml
from metavox.training.meta.task import Clips, Gradient, Task, Weights


@dataclass(frozen=True)
class Reptile(Learner):
    """Nichol et al. 2018. A task is trained on for `steps` steps on its support set and as many on its queries.

    Loss and score are those of the first pass over the queries, before the weights have learned from them.
    """

    steps: int = 2
    learning_rate: float = 0.05

    def adapt(self, weights: Weights, support: Clips) -> Weights:
        return Maml(self.problem, self.steps, self.learning_rate, first_order=True).adapt(weights, support)

    def gradient(self, weights: Weights, task: Task) -> Gradient:
        """The difference between initial and adapted weights, divided by the inner learning rate and the number of steps."""
        start = {name: value.detach() for name, value in weights.items()}
        adapted, first_query = self.adapt(start, task.support), None
        for _ in range(self.steps):
            adapted, query = inner_step(
                self.problem, adapted, task.query, lambda name: self.learning_rate, first_order=True
            )
            first_query = first_query or query
        assert first_query is not None
        scale = 1 / (2 * self.steps * self.learning_rate)
        direction = {
            name: ((start[name] - adapted[name]) * scale).detach() for name in self.trained_names(weights)
        }
        return Gradient(direction, first_query.loss.detach(), first_query.score.detach())

    def passes(self, support: int, queries: int) -> float:
        return self.steps * (support + queries)
