"""The meta-gradient of several tasks, computed in a loop or vectorised."""

from collections.abc import Sequence

from torch.func import vmap
from torch.utils._pytree import tree_map

from metavox.training.meta.learner import Learner
from metavox.training.meta.task import Gradient, Task, Weights, stack


def meta_gradient(learner: Learner, weights: Weights, tasks: Sequence[Task], vectorised: bool) -> Gradient:
    """Mean gradient, loss and score over the tasks.

    With `vectorised`, the tasks are stacked, so all must have the same numbers of clips and words; ValueError is raised
    otherwise. The results are the same. A loop holds the graph of one task in memory at a time, a stack those of all.
    """
    if vectorised:
        # vmap must be outside the gradient: when layer or batch normalisation is differentiated twice through a vmap,
        # torch 2.13 treats the statistics as constants and silently returns wrong gradients.
        per_task = vmap(learner.gradient, in_dims=(None, 0))(weights, stack(tasks))
        return Gradient(*tree_map(lambda values: values.mean(dim=0), tuple(per_task)))
    total = learner.gradient(weights, tasks[0])
    for task in tasks[1:]:
        task_gradient = learner.gradient(weights, task)
        total = Gradient(
            {name: gradient + task_gradient.gradients[name] for name, gradient in total.gradients.items()},
            total.loss + task_gradient.loss,
            total.score + task_gradient.score,
        )
    return Gradient(
        {name: gradient / len(tasks) for name, gradient in total.gradients.items()},
        total.loss / len(tasks),
        total.score / len(tasks),
    )
