"""Meta-learned starts of a LoRA adapter, from which few steps on few recordings of a task suffice.

A task is a speaker, or a speaker in an environment with an accent (`adverse_tasks`). `start_learners` has the learners.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.adaptation.fine_tune import Recordings
from metavox.adaptation.start_learners import StartConfig, initial_log_rates, task_gradient
from metavox.recognisers.delta import LoRA
from metavox.recognisers.recogniser import Recogniser
from metavox.training.loop import Training, set_rate

RATES_FASTER = 30.0  # learning rate of the logarithms of the rates, relative to that of the factors


@dataclass(frozen=True)
class Start:
    """Initial factors of an adapter.

    `rates` are learning rates by factor, relative to that of the recipe; those of factors that should not move are 0, and
    those that are missing 1.
    """

    lora: LoRA
    rates: Mapping[str, float] = field(default_factory=dict)


def learn_start(
    base: Recogniser, tasks: Sequence[Recordings], config: StartConfig, folder: Path, key: str
) -> Start:
    """Learn initial LoRA factors from the prepared recordings of training tasks.

    Checkpoints are kept in `folder`; one with another `key` is not resumed. Raises ValueError if no task has enough
    recordings.
    """
    usable = [recordings for recordings in tasks if len(recordings) >= 2 * config.shots]
    if not usable:
        raise ValueError(
            f"no speaker has {2 * config.shots} recordings, the number that a task requires; lower the number of shots"
        )
    adapter = Adapter(base, AdapterConfig("lora", config.rank, config.alpha, config.seed))
    log_rates = {
        name: nn.Parameter(value, requires_grad=False)
        for name, value in initial_log_rates(adapter, config).items()
    }
    factors, rates = (nn.ParameterList(one.values()) for one in (adapter.parameters, log_rates))
    groups: list[dict[str, object]] = [
        {"params": list(factors)},
        {"params": list(rates), "faster": RATES_FASTER},
    ]
    optimizer = torch.optim.Adam(groups, config.learning_rate)

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        set_rate(optimizer, config.learning_rate, step, config.steps, warmup=max(1, config.steps // 10))
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=random)))
        found = task_gradient(adapter, usable, config, rng, log_rates)
        for name, weight in adapter.parameters.items():
            weight.grad = found.factors[name]
        nn.utils.clip_grad_norm_(list(factors), 1.0)
        for name, rate in log_rates.items():
            rate.grad = found.log_rates.get(name) if config.learner == "metasgd" else None
        optimizer.step()
        return {"loss": found.loss}

    training = Training(
        f"adapter-start-{config.learner}",
        {"factors": factors, "rates": rates},
        {"adam": optimizer},
        update,
        config.steps,
        config.seed,
        folder,
        f"{key} {config}",
        checkpoint_every=20,
    )
    training.run()
    lora = adapter.delta({}).lora
    assert lora is not None
    return Start(lora, relative_rates(log_rates, adapter, config))


def relative_rates(
    log_rates: Mapping[str, torch.Tensor], adapter: Adapter, config: StartConfig
) -> dict[str, float]:
    """Rates by factor, relative to the inner learning rate; empty where all are 1."""
    by_factor = {
        name: math.exp(float(log_rates[name])) / config.inner_learning_rate if name in log_rates else 0.0
        for name in adapter.parameters
    }
    return by_factor if any(abs(rate - 1) > 1e-6 for rate in by_factor.values()) else {}
