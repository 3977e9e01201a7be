"""One step of gradient descent on a task's support set: what all inner loops are made of."""

from collections.abc import Callable

import torch
from torch.func import grad, vjp

from metavox.training.meta.problem import Problem
from metavox.training.meta.task import Clips, Gradient, Weights

Rate = Callable[[str], torch.Tensor | float]  # by the name of a weight


def inner_step(
    problem: Problem, weights: Weights, clips: Clips, rate: Rate, first_order: bool
) -> tuple[Weights, Gradient]:
    """The weights one step down the loss of `clips`, and the gradient that led there.

    A head that is not there yet begins from the same pass that the step needs anyway. First order: the step is a
    constant to whoever differentiates the result (Finn et al. 2017, section 5.2), and leaves no graph behind.
    """
    begun = all(name in weights for name in problem.head)
    seen = {n: w.detach() for n, w in weights.items()} if first_order and begun else weights
    body = {name: seen[name] for name in problem.body}
    features, back, lengths = vjp(  # type: ignore[misc]  # of three where it has an aux
        lambda moved: problem.features({**seen, **moved}, clips), body, has_aux=True
    )
    weights = problem.begin(weights, features, clips)

    def judge(
        features: torch.Tensor, head: Weights
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        loss, score = problem.judge({**weights, **head}, features, lengths, clips)
        return loss, (loss, score)

    head = {name: weights[name] for name in problem.head}
    with torch.set_grad_enabled(not first_order):
        (at_features, at_head), (loss, score) = grad(judge, argnums=(0, 1), has_aux=True)(features, head)
        (at_body,) = back(at_features)
    slopes = {**at_body, **at_head}
    if first_order:
        slopes = {name: slope.detach() for name, slope in slopes.items()}
    moved = {name: weights[name] - rate(name) * slope for name, slope in slopes.items()}
    return {**weights, **moved}, Gradient(slopes, loss, score)
