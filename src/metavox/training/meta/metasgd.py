"""Meta-SGD: the rate of the inner steps is learned with the start, one for each weight or each tensor of weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from metavox.errors import UserError
from metavox.training.meta.maml import Maml
from metavox.training.meta.problem import HEAD
from metavox.training.meta.task import Weights

PREFIX = "rate."
FILE = "rates.safetensors"  # beside a model


@dataclass(frozen=True)
class MetaSgd(Maml):
    """Li et al. 2017, with rates kept positive as exponentials: `rate.NAME` among the weights is a rate's logarithm.

    `learning_rate` is what all of them begin with. The task's word vectors share one, as each task has others.
    """

    per: Literal["tensor", "weight"] = "tensor"

    def own(self) -> dict[str, torch.Tensor]:
        model = self.problem.network.model
        begin, shapes = math.log(self.learning_rate), dict(model.named_parameters())
        like = next(model.parameters())
        names = (*self.problem.body, *self.problem.head)
        return {
            f"{PREFIX}{n}": like.new_full(
                shapes[n].shape if self.per == "weight" and n != HEAD else (), begin, requires_grad=False
            )
            for n in names
        }

    def rate(self, weights: Weights, name: str) -> torch.Tensor:
        return weights[f"{PREFIX}{name}"].exp()


def save_rates(own: Mapping[str, torch.Tensor], folder: Path) -> None:
    """The learned logarithms of rates, into the model's folder; nothing where there are none."""
    rates = {
        name: value.detach().cpu().contiguous() for name, value in own.items() if name.startswith(PREFIX)
    }
    if rates:
        save_file(rates, folder / FILE)


def load_rates(folder: Path) -> dict[str, torch.Tensor]:
    """What `MetaSgd.adapt` needs beside the model's weights. Raises UserError where the model has no learned rates."""
    try:
        return dict(load_file(folder / FILE))
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{folder}: no learned rates there ({error}); expected a model of metatrain.learner = metasgd"
        ) from error


def relative_rates(folder: Path) -> dict[str, float]:
    """How fast each weight of the model in `folder` should move beside the others: learned rates over their geometric mean.

    The mean of a weight's own rates stands for it where each of its numbers has one. Raises UserError as `load_rates`.
    """
    logs = {name.removeprefix(PREFIX): float(value.mean()) for name, value in load_rates(folder).items()}
    logs.pop(HEAD, None)  # a task's word vectors, which no model keeps
    middle = sum(logs.values()) / max(1, len(logs))
    return {name: math.exp(value - middle) for name, value in logs.items()}
