"""The meta-gradient of several tasks: one after the other, or all at once."""

from collections.abc import Sequence

import torch
from torch.func import vmap
from torch.utils._pytree import tree_map

from metavox.training.meta.learner import Learner
from metavox.training.meta.task import Gradient, Task, Weights, stack


def meta_gradient(learner: Learner, weights: Weights, tasks: Sequence[Task], vectorised: bool) -> Gradient:
    """Means over the tasks. `vectorised` makes one stack of them, which must have as many clips and words each.

    Both ways give the same numbers. A loop holds the graph of one task at a time, a stack those of all.
    """
    if vectorised:
        # vmap around the gradient, never inside of it: layer and batch normalisation differentiated twice through a
        # vmap give wrong slopes without a word (torch 2.13: their statistics count as constants).
        each = vmap(learner.gradient, in_dims=(None, 0))(weights, stack(tasks))
        return Gradient(*tree_map(lambda values: values.mean(dim=0), tuple(each)))
    total = learner.gradient(weights, tasks[0])
    for task in tasks[1:]:
        found = learner.gradient(weights, task)
        total = Gradient(
            {name: slope + found.slopes[name] for name, slope in total.slopes.items()},
            total.loss + found.loss,
            total.score + found.score,
        )
    return Gradient(
        {name: slope / len(tasks) for name, slope in total.slopes.items()},
        total.loss / len(tasks),
        total.score / len(tasks),
    )


def vectorise(learner: Learner, device: torch.device) -> bool:
    """Whether a stack is the faster way."""
    return device.type != "cpu"
