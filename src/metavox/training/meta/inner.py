"""One step of gradient descent on the support set of a task, the building block of all inner loops."""

from collections.abc import Callable

import torch
from torch.func import grad, vjp

from metavox.training.meta.problem import Problem
from metavox.training.meta.task import Clips, Gradient, Weights

Rate = Callable[[str], torch.Tensor | float]  # from the name of a weight to its learning rate


def inner_step(
    problem: Problem, weights: Weights, clips: Clips, rate: Rate, first_order: bool
) -> tuple[Weights, Gradient]:
    """The weights after one gradient step on the loss of `clips`, and the gradient.

    If the weights have no head yet, it is initialised in the same pass. With `first_order`, the step is treated as a
    constant when the result is differentiated (Finn et al. 2017, section 5.2), and no graph is kept.
    """
    has_head = all(name in weights for name in problem.head)
    fixed = {n: w.detach() for n, w in weights.items()} if first_order and has_head else weights
    body = {name: fixed[name] for name in problem.body}
    features, backward, lengths = vjp(  # type: ignore[misc]  # has_aux adds a third result
        lambda updated: problem.features({**fixed, **updated}, clips), body, has_aux=True
    )
    weights = problem.with_head(weights, features, clips)

    def head_loss(
        features: torch.Tensor, head: Weights
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        loss, score = problem.head_loss({**weights, **head}, features, lengths, clips)
        return loss, (loss, score)

    head = {name: weights[name] for name in problem.head}
    with torch.set_grad_enabled(not first_order):
        (feature_gradient, head_gradients), (loss, score) = grad(head_loss, argnums=(0, 1), has_aux=True)(
            features, head
        )
        (body_gradients,) = backward(feature_gradient)
    gradients = {**body_gradients, **head_gradients}
    if first_order:
        gradients = {name: gradient.detach() for name, gradient in gradients.items()}
    updated = {name: weights[name] - rate(name) * gradient for name, gradient in gradients.items()}
    return {**weights, **updated}, Gradient(gradients, loss, score)
