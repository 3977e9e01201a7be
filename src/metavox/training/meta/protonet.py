"""Prototypical networks: the head is the class means, and nothing else adapts to a task."""

from dataclasses import dataclass

from metavox.errors import UserError
from metavox.training.meta.learner import Learner
from metavox.training.meta.problem import Words
from metavox.training.meta.task import Clips, Weights


@dataclass(frozen=True)
class ProtoNet(Learner):
    """Snell et al. 2017, with cosine similarity. Raises UserError for utterances, which have no classes."""

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Words):
            raise UserError(
                "metatrain.learner protonet: utterances have no classes to average; choose another learner or metatrain.kind words"
            )

    def adapt(self, weights: Weights, support: Clips) -> Weights:
        return self.problem.with_head(weights, self.problem.features(weights, support)[0], support)

    def passes(self, support: int, queries: int) -> float:
        return support + queries
