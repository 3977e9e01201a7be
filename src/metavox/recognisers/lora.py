"""Low-rank adapters (LoRA, Hu et al. 2021), and views of a network that share its weights."""

import copy
from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from metavox.errors import UserError
from metavox.recognisers.delta import Delta, OutputRows

N = TypeVar("N", bound=nn.Module)


class LoRALinear(nn.Linear):
    """A linear layer whose weight is w + scale * b a: `lora_a` (rank, in), `lora_b` (out, rank).

    `weight` and `bias` are those of the layer that it stands for, shared with it. The product is never multiplied
    out, so that many adapters on one base cost their factors alone.
    """

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    scale: float

    def __init__(self, linear: nn.Linear, a: torch.Tensor, b: torch.Tensor, scale: float = 1.0):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        if isinstance(linear, LoRALinear):  # adapters add up
            a = torch.cat([linear.lora_a, a])
            b = torch.cat([linear.lora_b * linear.scale, b * scale], dim=1)
            scale = 1.0
        self.lora_a = nn.Parameter(a, requires_grad=False)
        self.lora_b = nn.Parameter(b, requires_grad=False)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return F.linear(x, self.weight, self.bias) + self.scale * low


class Growing(nn.Module):
    """A network whose output can be given rows for new characters."""

    def add_output_rows(self, rows: OutputRows) -> None:
        """In place. Raises UserError for rows of another width, and for a character that is there already."""
        raise NotImplementedError

    def added_rows(self) -> nn.Linear | None:
        """The layer that holds the rows that were added, in the order of their coming; None where there are none."""
        raise NotImplementedError


def shared_view(network: N) -> N:
    """A copy of the structure alone: every weight and buffer is the original's own tensor."""
    return copy.deepcopy(network, {id(t): t for t in chain(network.parameters(), network.buffers())})


def set_lora(network: nn.Module, name: str, a: torch.Tensor, b: torch.Tensor, scale: float) -> LoRALinear:
    """Put factors on the linear layer whose weight is `name`, in place; the layer that now stands there."""
    path = name.removesuffix(".weight")
    layer = LoRALinear(_linear(network, path), a, b, scale)
    layer.train(network.training)
    network.set_submodule(path, layer)
    return layer


def merged(network: N) -> N:
    """A view without low-rank layers: their products are in weights of its own."""
    view = shared_view(network)
    for path, layer in list(view.named_modules()):
        if isinstance(layer, LoRALinear):
            plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            weight = layer.weight + layer.scale * layer.lora_b @ layer.lora_a
            plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), layer.bias
            view.set_submodule(path, plain.train(layer.training))
    return view


def set_weight(network: nn.Module, name: str, value: torch.Tensor) -> nn.Parameter:
    """Replace one weight of a view by its own, which nothing else shares."""
    path, _, last = name.rpartition(".")
    weight = nn.Parameter(value, requires_grad=False)
    setattr(network.get_submodule(path), last, weight)
    return weight


def applied(network: N, digest: str, deltas: Sequence[Delta]) -> N:
    """A view of `network`, whose base has `digest`, with `deltas` on it. Raises UserError, see `check`."""
    check(network, digest, deltas)
    view = shared_view(network)
    for delta in deltas:
        for name, difference in delta.weights.items():
            set_weight(view, name, view.get_parameter(name).detach() + difference)
        if delta.lora:
            for name, (a, b) in delta.lora.factors.items():
                set_lora(view, name, a, b, delta.lora.scale)
    for delta in deltas:
        if delta.output_rows:
            growing(view).add_output_rows(delta.output_rows)
    return view


def check(network: nn.Module, digest: str, deltas: Sequence[Delta]) -> None:
    """Raises UserError for a delta of another base, or one that changes weights that the network lacks."""
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    for delta in deltas:
        if delta.base != digest:
            raise UserError(
                f"the delta was made for base {delta.base[:12]}, this model is {digest[:12]}; "
                "load the model it was made for, or adapt again"
            )
        for name, shape in delta.shapes().items():
            if shapes.get(name) != shape:
                raise UserError(f"the delta changes {name} {shape}, which this model does not have")


def growing(network: nn.Module) -> Growing:
    """The network as one that takes new characters. Raises UserError where it does not."""
    if not isinstance(network, Growing):
        raise UserError("the delta brings new characters, which this kind of model cannot take; adapt again")
    return network


def _linear(network: nn.Module, path: str) -> nn.Linear:
    try:
        found = network.get_submodule(path)
    except AttributeError:
        found = None
    if not isinstance(found, nn.Linear):
        raise UserError(f"the delta adapts the linear layer {path}, which this model does not have")
    return found
