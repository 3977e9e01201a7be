"""A model as a pure function of its weights; running statistics are read or left alone, never written."""

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
    """Calls of a model under other weights. Nothing is copied but the model's structure, which holds no numbers.

    `running`: batch normalisation uses the running statistics that the model has when it is called, whatever mode it
    is in. `batch`: it uses the statistics of the clips at hand, padding and all ("transductive": a query's result
    then depends on the other queries, and on how many there are). Dropout is off in both.
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
        """`call(model)` with `weights` in the place of the model's own; names that are none of its are passed over."""
        named = {n: value for n, value in weights.items() if n in self._parameters}
        named |= {n: value for n, value in self.model.named_buffers() if n in self._buffers}
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
            found: T = functional_call(
                self._apply, {f"model.{n}": value for n, value in named.items()}, (call,)
            )
        return found


class _Apply(nn.Module):
    """Gives any call of a model the `forward` that functional_call needs."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, call: Callable[[nn.Module], T]) -> T:
        return call(self.model)
