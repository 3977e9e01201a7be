"""The inner loop of meta-learning on an adapter: a few differentiable steps on the recordings of a task.

A step moves each factor against its gradient by `rate` on average, whatever the size of the gradient, as the first steps
of Adam do in `fine_tune`. Unlike Adam's, whose first step is the sign of the gradient, it can be differentiated.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from metavox.adaptation.adapter import Adapter
from metavox.adaptation.fine_tune import Recordings
from metavox.training.ctc import ctc_loss

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
        """The loss with `factors`; with `twice`, it can be differentiated twice, unlike fused attention and torch's CTC."""
        weights = {self._paths[name]: value for name, value in factors.items()}
        if not twice:
            return functional_call(self, weights, (recordings,))  # type: ignore[no-any-return]
        with sdpa_kernel(SDPBackend.MATH), TwiceDifferentiableCtc():
            return functional_call(self, weights, (recordings,))  # type: ignore[no-any-return]


class TwiceDifferentiableCtc(TorchFunctionMode):
    """Within it, torch's CTC loss is computed by `training.ctc`, whatever recogniser calls it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is F.ctc_loss:
            return _ctc_loss(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _ctc_loss(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    blank: int = 0,
    reduction: Any = "mean",
    zero_infinity: bool = False,
) -> torch.Tensor:
    """As `torch.nn.functional.ctc_loss`: log_probs (time, batch, symbols), targets concatenated or (batch, labels)."""
    if targets.ndim == 1:
        targets = nn.utils.rnn.pad_sequence(targets.split(target_lengths.tolist()), batch_first=True)
    return ctc_loss(
        log_probs.transpose(0, 1), targets, input_lengths, target_lengths, blank, reduction, zero_infinity
    )


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
