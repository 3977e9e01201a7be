"""A view of a recogniser in which only an adapter is trainable."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from metavox.recognisers.delta import Delta, LoRA, OutputRows
from metavox.recognisers.lora import ExtensibleNetwork, LoRALinear, merged, set_lora, set_weight, shared_view
from metavox.recognisers.recogniser import Preset, Recogniser

ROWS = "output_rows."


@dataclass(frozen=True)
class AdapterConfig:
    """Which weights are trained. LoRA presets use factors of rank `rank`, scaled by `alpha / rank`."""

    preset: Preset
    rank: int = 8
    alpha: float = 8.0
    seed: int = 0


class Adapter:
    """`recogniser` is the view and `parameters` are its trainable parameters, by name. The base model is not changed.

    A LoRA preset starts with a zero update, or with the factors of `start`. Output rows for `characters`, which the
    base model lacks, are always trainable.
    """

    def __init__(
        self, base: Recogniser, config: AdapterConfig, characters: str = "", start: LoRA | None = None
    ):
        self.config, self.characters = config, characters
        self._digest = base.spec.digest
        view = base.with_characters(characters) if characters else base
        self._initial = merged(view.network)
        self._start: dict[str, torch.Tensor] = {}  # the factors of a learned start
        network = shared_view(self._initial)
        self.recogniser = view.with_network(network)
        self.parameters: dict[str, nn.Parameter] = {}
        self.paths: dict[str, str] = {}  # of LoRA factors in the network, by name
        self._layers: dict[str, LoRALinear] = {}
        targets = self.recogniser.adapter_targets(config.preset)
        if config.preset.startswith("lora"):
            self._add_factors(network, targets, start)
        else:
            self.parameters |= {
                name: set_weight(network, name, network.get_parameter(name).detach().clone())
                for name in targets
            }
        if (
            characters
            and isinstance(network, ExtensibleNetwork)
            and (rows := network.added_rows()) is not None
        ):
            rows.weight, rows.bias = (nn.Parameter(w.detach().clone()) for w in (rows.weight, rows.bias))
            self.parameters |= {f"{ROWS}weight": rows.weight, f"{ROWS}bias": rows.bias}
            existing = len(rows.bias) - len(
                characters
            )  # from deltas already in the view; these must not change
            for weight in (rows.weight, rows.bias):
                weight.requires_grad_(True).register_hook(
                    lambda gradient: gradient.index_fill(
                        0, torch.arange(existing, device=gradient.device), 0.0
                    )
                )
        for weight in self.parameters.values():
            weight.requires_grad_(True)

    def _add_factors(self, network: nn.Module, targets: tuple[str, ...], start: LoRA | None) -> None:
        random = torch.Generator().manual_seed(self.config.seed)
        scale = start.scale if start else self.config.alpha / self.config.rank
        for name in targets:
            weight = network.get_parameter(name)
            rows, columns = weight.shape
            if start and name in start.factors:
                a, b = (factor.clone() for factor in start.factors[name])
            else:
                a = torch.randn(self.config.rank, columns, generator=random) / columns**0.5
                b = torch.zeros(rows, self.config.rank)
            layer = set_lora(network, name, a.to(weight.device), b.to(weight.device), scale)
            self._layers[name] = layer
            self.parameters |= {f"{name}.a": layer.lora_a, f"{name}.b": layer.lora_b}
            path = name.removesuffix(".weight")
            self.paths |= {f"{name}.a": f"{path}.lora_a", f"{name}.b": f"{path}.lora_b"}
        self._start = {name: self.parameters[name].detach().clone() for name in self.paths} if start else {}

    def distance(self) -> torch.Tensor:
        """Squared distance of the weights from those of the base model (L2-SP, Li et al. 2018), a scalar.

        For LoRA it is the squared norm of the update. Output rows for new characters do not count.
        """
        distances = [
            (weight - self._initial.get_parameter(name)).square().sum()
            for name, weight in self.parameters.items()
            if not self._layers and not name.startswith(ROWS)
        ]
        # |b a|^2 = trace(a a' b' b), which avoids computing the product.
        distances += [
            layer.scale**2 * ((layer.lora_a @ layer.lora_a.T) * (layer.lora_b.T @ layer.lora_b)).sum()
            for layer in self._layers.values()
        ]
        return torch.stack(distances).sum() if distances else torch.zeros(())

    def shrink(self, scale: float) -> None:
        """Scale the change from the base model by `scale`, except for output rows for new characters.

        With a learned start, which is meant to be kept, the factors move back towards the start instead.
        """
        with torch.no_grad():
            for layer in self._layers.values() if not self._start else ():
                layer.lora_b.mul_(scale)
            for name, start in self._start.items():
                self.parameters[name].lerp_(start, 1.0 - scale)
            for name, weight in self.parameters.items():
                if not self._layers and not name.startswith(ROWS):
                    weight.lerp_(self._initial.get_parameter(name), 1.0 - scale)

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the trainable parameters, for `restore`."""
        return {name: weight.detach().clone() for name, weight in self.parameters.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.parameters.items():
                weight.copy_(state[name])

    def delta(self, about: Mapping[str, Any]) -> Delta:
        """The current adapter as a delta of the base model."""
        lora, weights, rows = None, {}, None
        if self._layers:
            scale = next(iter(self._layers.values())).scale
            factors = {
                name: (layer.lora_a.detach().clone(), layer.lora_b.detach().clone())
                for name, layer in self._layers.items()
            }
            rank = max(a.shape[0] for a, _ in factors.values())
            lora = LoRA(rank, scale * rank, factors)
        else:
            weights = {
                name: (weight - self._initial.get_parameter(name)).detach().clone()
                for name, weight in sorted(self.parameters.items())
                if not name.startswith(ROWS)
            }
        if self.characters:
            count = len(self.characters)
            weight, bias = (
                self.parameters[f"{ROWS}{n}"].detach()[-count:].clone() for n in ("weight", "bias")
            )
            rows = OutputRows(self.characters, weight, bias)
        return Delta(self._digest, weights, lora, rows, None, about)
