"""Meta-SGD: the learning rates of the inner steps are meta-learned, one for each tensor or each single weight."""

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
FILE = "rates.safetensors"  # in the model's folder


@dataclass(frozen=True)
class MetaSgd(Maml):
    """Li et al. 2017. `rate.NAME` among the weights is the logarithm of a learning rate, which keeps rates positive.

    All rates start at `learning_rate`. The word vectors share one rate, since each task has its own vectors.
    """

    per: Literal["tensor", "weight"] = "tensor"

    def meta_parameters(self) -> dict[str, torch.Tensor]:
        model = self.problem.network.model
        initial, shapes = math.log(self.learning_rate), dict(model.named_parameters())
        reference = next(model.parameters())
        names = (*self.problem.body, *self.problem.head)
        return {
            f"{PREFIX}{n}": reference.new_full(
                shapes[n].shape if self.per == "weight" and n != HEAD else (), initial, requires_grad=False
            )
            for n in names
        }

    def rate(self, weights: Weights, name: str) -> torch.Tensor:
        return weights[f"{PREFIX}{name}"].exp()


def save_rates(meta_parameters: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write the logarithms of the learned rates to the model's folder, if there are any."""
    rates = {
        name: value.detach().cpu().contiguous()
        for name, value in meta_parameters.items()
        if name.startswith(PREFIX)
    }
    if rates:
        save_file(rates, folder / FILE)


def load_rates(folder: Path) -> dict[str, torch.Tensor]:
    """Load what `MetaSgd.adapt` needs besides the model's weights. Raises UserError if the model has no learned rates."""
    try:
        return dict(load_file(folder / FILE))
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{folder}: no learned rates found ({error}); expected a model trained with metatrain.learner = metasgd"
        ) from error


def relative_rates(folder: Path) -> dict[str, float]:
    """The learned rate of each weight of the model in `folder`, relative to the geometric mean of all rates.

    A tensor with a rate for each single weight is represented by the geometric mean of its rates. Raises UserError as
    `load_rates` does.
    """
    logs = {name.removeprefix(PREFIX): float(value.mean()) for name, value in load_rates(folder).items()}
    logs.pop(HEAD, None)  # the word vectors of a task, which are not saved with the model
    mean_log = sum(logs.values()) / max(1, len(logs))
    return {name: math.exp(value - mean_log) for name, value in logs.items()}
