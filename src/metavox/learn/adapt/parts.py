"""Which weights adaptation may move: some of the model's own, or products of low rank that are added to them."""

from typing import Literal, get_args

import torch
from torch import nn
from torch.nn.utils import parametrize

from metavox.recognisers.conformer.delta import Delta, Factors
from metavox.recognisers.conformer.frontend.normalise import Normalise
from metavox.recognisers.conformer.network import Network

Part = Literal["norms", "head", "frontend", "all", "lowrank"]
PARTS: tuple[str, ...] = get_args(Part)


def trainable(model: Network, part: Part) -> set[str]:
    """Names of the weights that adaptation may move; of `lowrank`, those that a product is added to."""
    names = {name for name, _ in model.named_parameters() if not name.startswith("word.")}
    if part == "all":
        return names
    if part == "head":
        return {name for name in names if name.startswith("ctc.")}
    if part == "frontend":
        return {name for name in names if name.startswith("encoder.frontend.")}
    if part == "lowrank":
        return {f"{path}.weight" for path, module in model.named_modules() if _linear(path, module)}
    norms = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d | Normalise)
        for name, _ in module.named_parameters(recurse=False)
    }
    return names & {n for n in names if n in norms or n.endswith("bias") or n.startswith("ctc.")}


class Product(nn.Module):
    """A weight plus left @ right, of low rank (LoRA, Hu et al. 2021, section 4.1): at first plus zero."""

    def __init__(self, weight: torch.Tensor, rank: int, generator: torch.Generator):
        super().__init__()
        rows, columns = weight.shape
        self.left = nn.Parameter(torch.zeros(rows, rank))
        self.right = nn.Parameter(torch.randn(rank, columns, generator=generator) / columns**0.5)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.left @ self.right


class Moved:
    """A model of which only a part moves. Changes `student`; the rest of it is frozen.

    `parameters` are what an optimizer moves, by name; characters that the base lacks are always among them.
    """

    def __init__(self, student: Network, part: Part, rank: int = 4, seed: int = 0):
        self.student = student.requires_grad_(False)
        self._products: dict[str, Product] = {}
        names = trainable(student, part)
        if part == "lowrank":
            random = torch.Generator().manual_seed(seed)
            for name in sorted(names):
                module = student.get_submodule(name.removesuffix(".weight"))
                product = Product(module.get_parameter("weight"), rank, random)
                parametrize.register_parametrization(module, "weight", product)
                self._products[name] = product
            self.parameters = {
                f"{name}.{side}": weight
                for name, product in self._products.items()
                for side, weight in product.named_parameters()
            }
        else:
            self.parameters = {n: p for n, p in student.named_parameters() if n in names}
        if student.more_characters is not None:
            more = student.more_characters.named_parameters()
            self.parameters |= {f"more_characters.{name}": weight for name, weight in more}
        for weight in self.parameters.values():
            weight.requires_grad_(True)
        self._before = {name: weight.detach().clone() for name, weight in self.parameters.items()}

    def distance(self) -> torch.Tensor:
        """Squared distance of the base's own weights from where they began (L2-SP, Li et al. 2018); of a
        product, of the weight that it is added to."""
        moved = [
            (weight - self._before[name]).square().sum()
            for name, weight in self.parameters.items()
            if not name.startswith("more_characters.") and not self._products
        ]
        moved += [(p.left @ p.right).square().sum() for p in self._products.values()]
        return torch.stack(moved).sum() if moved else torch.zeros(())

    def delta(self, base: str, about: dict[str, object]) -> Delta:
        """What has moved."""
        differences = {
            name: (weight.detach() - self._before[name]).clone()
            for name, weight in sorted(self.parameters.items())
            if not name.startswith("more_characters.") and not self._products
        }
        factors: dict[str, Factors] = {
            name: (product.left.detach().clone(), product.right.detach().clone())
            for name, product in self._products.items()
        }
        return Delta(base, differences, factors=factors, about=about)


def _linear(path: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and path.startswith(("encoder.", "ctc"))
