"""Low-rank adapters (LoRA, Hu et al. 2021) and views of a network that share its weights."""

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
    """A linear layer with weight w + scale * b a: `lora_a` (rank, in), `lora_b` (out, rank).

    `weight` and `bias` are shared with the layer that it replaces. The product is never materialised, so many
    adapters on one base model cost only their factors.
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
        update = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return F.linear(x, self.weight, self.bias) + self.scale * update


class ExtensibleNetwork(nn.Module):
    """A network whose output layer can be extended by rows for new characters."""

    def add_output_rows(self, rows: OutputRows) -> None:
        """Add rows in place. Raises UserError for rows of another width and for a character that is already
        there.
        """
        raise NotImplementedError

    def added_rows(self) -> nn.Linear | None:
        """The layer with the added rows, in the order in which they were added; None if there are none."""
        raise NotImplementedError


def shared_view(network: N) -> N:
    """A copy of the module structure: every weight and buffer is the original's own tensor."""
    return copy.deepcopy(network, {id(t): t for t in chain(network.parameters(), network.buffers())})


def set_lora(network: nn.Module, name: str, a: torch.Tensor, b: torch.Tensor, scale: float) -> LoRALinear:
    """Add LoRA factors to the linear layer whose weight is `name`, in place. Returns the new layer."""
    path = name.removesuffix(".weight")
    layer = LoRALinear(_linear(network, path), a, b, scale)
    layer.train(network.training)
    network.set_submodule(path, layer)
    return layer


def merged(network: N) -> N:
    """A view without LoRA layers: their products are merged into weights of its own."""
    view = shared_view(network)
    for path, layer in list(view.named_modules()):
        if isinstance(layer, LoRALinear):
            plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            weight = layer.weight + layer.scale * layer.lora_b @ layer.lora_a
            plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), layer.bias
            view.set_submodule(path, plain.train(layer.training))
    return view


def set_weight(network: nn.Module, name: str, value: torch.Tensor) -> nn.Parameter:
    """Replace one weight of a view by a parameter of its own, which nothing else shares, and return it."""
    path, _, last = name.rpartition(".")
    weight = nn.Parameter(value, requires_grad=False)
    setattr(network.get_submodule(path), last, weight)
    return weight


def applied(network: N, digest: str, deltas: Sequence[Delta]) -> N:
    """A view of `network`, whose digest is `digest`, with `deltas` applied. Raises UserError as `check` does."""
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
            extensible(view).add_output_rows(delta.output_rows)
    return view


def check(network: nn.Module, digest: str, deltas: Sequence[Delta]) -> None:
    """Raise UserError for a delta of another base model, or one that changes weights that the network lacks."""
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    for delta in deltas:
        if delta.base != digest:
            raise UserError(
                f"the delta was made for base {delta.base[:12]}, but this model is {digest[:12]}; "
                "load the model that it was made for, or adapt again"
            )
        for name, shape in delta.shapes().items():
            if shapes.get(name) != shape:
                raise UserError(f"the delta changes {name} {shape}, which this model does not have")


def extensible(network: nn.Module) -> ExtensibleNetwork:
    """The network, if it can be extended by characters. Raises UserError if it cannot."""
    if not isinstance(network, ExtensibleNetwork):
        raise UserError("the delta adds characters, which this kind of model cannot take; adapt again")
    return network


def _linear(network: nn.Module, path: str) -> nn.Linear:
    try:
        layer = network.get_submodule(path)
    except AttributeError:
        layer = None
    if not isinstance(layer, nn.Linear):
        raise UserError(f"the delta adapts the linear layer {path}, which this model does not have")
    return layer
