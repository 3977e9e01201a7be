"""A model as a pure function of its weights, which never updates running statistics."""

import copy
from collections.abc import Callable
from typing import Literal, TypeVar

from torch import nn
from torch.func import functional_call, replace_all_batch_norm_modules_
from torch.nn.attention import SDPBackend, sdpa_kernel

from metavox.recognisers.conformer import Network
from metavox.training.meta.task import Weights

Statistics = Literal["running", "batch"]
T = TypeVar("T")


class StatelessNetwork:
    """Calls a model with other weights. Only the structure of the model is copied, not its weights.

    With `running`, batch normalisation uses the current running statistics of the model, even in training mode. With
    `batch`, it uses the statistics of the given clips, including padding (the transductive setting, in which the result
    of a query depends on the other queries and their number). Dropout is always off.
    """

    def __init__(self, model: Network, statistics: Statistics = "running"):
        self.model = model
        structure = copy.deepcopy(model).to("meta").eval()
        if statistics == "batch":
            replace_all_batch_norm_modules_(structure)
        self._apply = _Apply(structure)
        self._buffers = {name for name, _ in structure.named_buffers()}
        self._parameters = {name for name, _ in structure.named_parameters()}

    def __call__(self, weights: Weights, call: Callable[[Network], T]) -> T:
        """`call(model)` with `weights` instead of the model's own; names that the model lacks are ignored."""
        state = {n: value for n, value in weights.items() if n in self._parameters}
        state |= {n: value for n, value in self.model.named_buffers() if n in self._buffers}
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no second derivative
            result: T = functional_call(
                self._apply, {f"model.{n}": value for n, value in state.items()}, (call,)
            )
        return result


class _Apply(nn.Module):
    """Wraps a call of the model as the `forward` that functional_call requires."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, call: Callable[[nn.Module], T]) -> T:
        return call(self.model)
