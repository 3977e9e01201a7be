"""Meta-learners: they train initial weights from which a few steps on a few clips go a long way.

All have the interface `(weights, task) -> (adapted weights, loss)`. The tasks consist of words or of utterances (see
`Problem`). Weights are plain dictionaries and the model is called through `torch.func`, so nothing is copied or changed
in place.
"""

from typing import Literal

from metavox.training.meta.anil import Anil
from metavox.training.meta.batch import meta_gradient
from metavox.training.meta.learner import Learner
from metavox.training.meta.maml import Maml
from metavox.training.meta.metasgd import MetaSgd
from metavox.training.meta.problem import HEAD, Problem, Utterances, Words
from metavox.training.meta.protonet import ProtoNet
from metavox.training.meta.reptile import Reptile
from metavox.training.meta.sampling import Curriculum, UtteranceTasks, WordTasks
from metavox.training.meta.task import Clips, Gradient, Outcome, Task, Weights, stack
from metavox.training.meta.training import MetaTask

__all__ = [
    "HEAD",
    "Anil",
    "Clips",
    "Curriculum",
    "Gradient",
    "Learner",
    "Maml",
    "MetaSgd",
    "MetaTask",
    "Name",
    "Outcome",
    "Problem",
    "ProtoNet",
    "Reptile",
    "Task",
    "UtteranceTasks",
    "Utterances",
    "Weights",
    "WordTasks",
    "Words",
    "learner",
    "meta_gradient",
    "stack",
]

Name = Literal["protonet", "fomaml", "maml", "reptile", "anil", "metasgd"]


def learner(name: Name, problem: Problem, steps: int, learning_rate: float) -> Learner:
    """The learner that `metatrain.learner` names."""
    if name == "protonet":
        return ProtoNet(problem)
    if name == "fomaml":
        return Maml(problem, steps, learning_rate, first_order=True)
    kinds = {"maml": Maml, "reptile": Reptile, "anil": Anil, "metasgd": MetaSgd}
    return kinds[name](problem, steps, learning_rate)
