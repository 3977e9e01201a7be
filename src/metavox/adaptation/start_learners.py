"""Meta-gradients of a LoRA adapter's start, and of the rates at which its factors move.

| learner | gradient of the start | rates |
|---|---|---|
| joint | of the loss on recordings of all tasks mixed; the baseline | fixed |
| reptile | towards the weights adapted to a task (Nichol, Achiam, Schulman 2018, section 2) | fixed |
| fomaml | of the query loss at the adapted weights (Finn, Abbeel, Levine 2017, section 5.2) | fixed |
| maml | of the query loss through the inner steps (section 2.2) | fixed |
| metasgd | as fomaml | learned, one a factor, in log space (Li et al. 2017) |

With `moving`, only some factors move in the inner loop, and the others are learned by the outer one alone (as in ANIL, Raghu
et al. 2020).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from metavox.adaptation.adapter import Adapter
from metavox.adaptation.fine_tune import Recordings
from metavox.adaptation.inner_loop import FactorLoss, adapted

StartLearner = Literal["joint", "reptile", "fomaml", "maml", "metasgd"]
SECOND_ORDER = ("maml",)


@dataclass(frozen=True)
class StartConfig:
    """Each step has one task, with `shots` recordings for `inner_steps` of adaptation and as many query recordings.

    `moving` is the prefix of the factors that move in the inner loop. With `perturb`, the recogniser perturbs every
    recording at every step, as `fine_tune` does.
    """

    learner: StartLearner = "reptile"
    steps: int = 100
    shots: int = 5
    inner_steps: int = 3
    inner_learning_rate: float = 1e-3
    learning_rate: float = 1e-3
    rank: int = 8
    alpha: float = 8.0
    seed: int = 0
    moving: str = ""
    perturb: bool = True


@dataclass(frozen=True)
class MetaGradient:
    """The query loss of a task, and the gradients of the factors and of the logarithms of their rates."""

    loss: float
    factors: Mapping[str, torch.Tensor]
    log_rates: Mapping[str, torch.Tensor]


def task_gradient(
    adapter: Adapter,
    tasks: Sequence[Recordings],
    config: StartConfig,
    random: np.random.Generator,
    log_rates: Mapping[str, torch.Tensor] | None = None,
) -> MetaGradient:
    """The meta-gradient of a random task; the adapter's factors and `log_rates` do not change.

    Every learner processes `shots * (inner_steps + 1)` recordings forward and backward; second order takes longer.
    """
    if config.learner == "joint":
        mixed = _perturbed(adapter, _mixed(tasks, config, random), config, random)
        return _gradient_at(adapter, adapter.parameters, mixed)
    task = tasks[int(random.integers(len(tasks)))]
    order = random.permutation(len(task))
    support, query = task.subset(order[: config.shots]), task.subset(order[config.shots : 2 * config.shots])
    batches = [_perturbed(adapter, support, config, random) for _ in range(config.inner_steps)]
    query = _perturbed(adapter, query, config, random)
    if config.learner == "reptile":
        return _reptile(adapter, batches, query, config)
    own_rates = log_rates or initial_log_rates(adapter, config)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in own_rates.items()}
    loss = FactorLoss(adapter)
    second_order = config.learner in SECOND_ORDER
    rates = {name: value.exp() for name, value in leaves.items()}
    factors = adapted(loss, adapter.parameters, rates, batches, second_order)
    value = loss.of(factors, query, twice=second_order)
    weights = [*adapter.parameters.values(), *leaves.values()]
    gradients = torch.autograd.grad(value, weights, allow_unused=True)
    filled = [
        torch.zeros_like(weight) if gradient is None else gradient.detach()
        for weight, gradient in zip(weights, gradients, strict=True)
    ]
    count = len(adapter.parameters)
    return MetaGradient(
        float(value.detach()),
        dict(zip(adapter.parameters, filled[:count], strict=True)),
        dict(zip(leaves, filled[count:], strict=True)),
    )


def initial_log_rates(adapter: Adapter, config: StartConfig) -> dict[str, torch.Tensor]:
    """The logarithm of the inner learning rate for each factor that moves."""
    value = float(np.log(config.inner_learning_rate))
    return {
        name: torch.tensor(value, dtype=weight.dtype, device=weight.device)
        for name, weight in adapter.parameters.items()
        if name.startswith(config.moving)
    }


def _reptile(
    adapter: Adapter, batches: Sequence[Recordings], query: Recordings, config: StartConfig
) -> MetaGradient:
    """The way back from the weights that Adam, which `fine_tune` uses too, reaches on support and query recordings."""
    start, loss = adapter.state(), 0.0
    moving = [weight for name, weight in adapter.parameters.items() if name.startswith(config.moving)]
    optimizer = torch.optim.Adam(moving, config.inner_learning_rate)
    for batch in (*batches, query):
        one = _gradient_at(adapter, adapter.parameters, batch)
        for name, weight in adapter.parameters.items():
            weight.grad = one.factors[name]
        optimizer.step()
        loss = one.loss
    gradients = {name: start[name] - weight.detach() for name, weight in adapter.parameters.items()}
    optimizer.zero_grad(set_to_none=True)
    adapter.restore(start)
    return MetaGradient(loss, gradients, {})


def _gradient_at(
    adapter: Adapter, factors: Mapping[str, nn.Parameter], recordings: Recordings
) -> MetaGradient:
    value = adapter.recogniser.loss(recordings.audio, recordings.texts)
    gradients = torch.autograd.grad(value, list(factors.values()), allow_unused=True)
    return MetaGradient(
        float(value.detach()),
        {
            name: torch.zeros_like(weight) if gradient is None else gradient
            for (name, weight), gradient in zip(factors.items(), gradients, strict=True)
        },
        {},
    )


def _mixed(tasks: Sequence[Recordings], config: StartConfig, random: np.random.Generator) -> Recordings:
    """As many recordings as a task has, each of a task of its own."""
    count = config.shots * (config.inner_steps + 1)
    chosen = [tasks[int(i)] for i in random.integers(len(tasks), size=count)]
    rows = [int(random.integers(len(recordings))) for recordings in chosen]
    return Recordings(
        [recordings.audio[i] for recordings, i in zip(chosen, rows, strict=True)],
        [recordings.texts[i] for recordings, i in zip(chosen, rows, strict=True)],
    )


def _perturbed(
    adapter: Adapter, recordings: Recordings, config: StartConfig, random: np.random.Generator
) -> Recordings:
    if not config.perturb:
        return recordings
    return Recordings(adapter.recogniser.perturb(recordings.audio, random), recordings.texts)
