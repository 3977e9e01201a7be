"""Meta-learners: train the start so that a few steps from a few clips go a long way.

One interface, `(weights, task) -> (adapted weights, loss)`; a task is of words or of utterances (`Problem`). Weights are
plain dictionaries and the model is called by `torch.func`, so nothing is copied and nothing is changed in place.
"""

from typing import Literal

from metavox.training.meta.anil import Anil
from metavox.training.meta.batch import meta_gradient, vectorise
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
    "vectorise",
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
