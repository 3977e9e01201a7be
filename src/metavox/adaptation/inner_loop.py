"""The inner loop of meta-learning on an adapter: a few differentiable steps on the recordings of a task.

A step moves each factor against its gradient by `rate` on average, whatever the size of the gradient, as the first steps
of Adam do in `fine_tune`. Unlike Adam's, whose first step is the sign of the gradient, it can be differentiated.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from metavox.adaptation.adapter import Adapter
from metavox.adaptation.fine_tune import Recordings

DAMPING = 0.03  # smaller gradients, relative to the root mean square over all factors, give smaller steps
TINY = 1e-12
Factors = Mapping[str, torch.Tensor]


class FactorLoss(nn.Module):
    """The loss of a recogniser as a function of an adapter's factors, through which gradients flow."""

    def __init__(self, adapter: Adapter):
        super().__init__()
        self.network = adapter.recogniser.network
        self._recogniser = adapter.recogniser
        self._paths = {name: f"network.{path}" for name, path in adapter.paths.items()}

    def forward(self, recordings: Recordings) -> torch.Tensor:
        return self._recogniser.loss(recordings.audio, recordings.texts)

    def of(self, factors: Factors, recordings: Recordings, twice: bool = False) -> torch.Tensor:
        """The loss with `factors`; with `twice`, it can be differentiated twice, which fused attention cannot."""
        weights = {self._paths[name]: value for name, value in factors.items()}
        if not twice:
            return functional_call(self, weights, (recordings,))  # type: ignore[no-any-return]
        with sdpa_kernel(SDPBackend.MATH):
            return functional_call(self, weights, (recordings,))  # type: ignore[no-any-return]


def adapted(
    loss: FactorLoss,
    factors: Factors,
    rates: Mapping[str, torch.Tensor],
    batches: Sequence[Recordings],
    second_order: bool,
) -> dict[str, torch.Tensor]:
    """The factors after one step on each batch; only those that have a rate move.

    The result depends differentiably on factors and rates. Without `second_order`, the direction of a step counts as a
    constant (Finn, Abbeel, Levine 2017, section 5.2).
    """
    current = dict(factors)
    for batch in batches:
        value = loss.of(current, batch, twice=second_order)
        gradients = torch.autograd.grad(
            value, [current[name] for name in rates], create_graph=second_order, allow_unused=True
        )
        found = {name: g for name, g in zip(rates, gradients, strict=True) if g is not None}
        for name, direction in directions(found).items():
            current[name] = current[name] - rates[name] * direction
    return current


def directions(gradients: Factors) -> dict[str, torch.Tensor]:
    """Each gradient over its root mean square, which is damped by that over all gradients."""
    total = sum(g.square().sum() for g in gradients.values()) / max(
        1, sum(g.numel() for g in gradients.values())
    )
    floor = DAMPING**2 * total + TINY**2
    return {name: g / (g.square().mean() + floor).sqrt() for name, g in gradients.items()}
