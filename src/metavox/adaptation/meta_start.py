"""Meta-learned initial weights of a LoRA adapter, from which few steps on few recordings of a speaker suffice.

A task is a speaker. Reptile (Nichol, Achiam, Schulman 2018, section 2) moves the start towards the weights adapted to
the speaker; FOMAML (Finn, Abbeel, Levine 2017, section 5.2) follows the gradient of other recordings of the speaker at
the adapted weights. Joint training, the baseline, mixes the recordings of all speakers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.adaptation.fine_tune import Recordings
from metavox.recognisers.delta import LoRA
from metavox.recognisers.recogniser import Recogniser
from metavox.training.loop import Training, set_rate

StartLearner = Literal["joint", "reptile", "fomaml"]


@dataclass(frozen=True)
class StartConfig:
    """Each step has one task, with `shots` recordings for `inner_steps` of adaptation and as many query recordings."""

    learner: StartLearner = "reptile"
    steps: int = 100
    shots: int = 5
    inner_steps: int = 3
    inner_learning_rate: float = 1e-3
    learning_rate: float = 1e-3
    rank: int = 8
    alpha: float = 8.0
    seed: int = 0


def learn_start(
    base: Recogniser, speakers: Sequence[Recordings], config: StartConfig, folder: Path, key: str
) -> LoRA:
    """Learn initial LoRA factors from the prepared recordings of training speakers.

    Checkpoints are kept in `folder`; one with another `key` is not resumed. All learners process the same number of
    recordings per step, forward and backward. Raises ValueError if no speaker has enough recordings for a task.
    """
    usable = [recordings for recordings in speakers if len(recordings) >= 2 * config.shots]
    if not usable:
        raise ValueError(
            f"no speaker has {2 * config.shots} recordings, the number that a task requires; lower the number of shots"
        )
    adapter = Adapter(base, AdapterConfig("lora", config.rank, config.alpha, config.seed))
    factors = nn.ParameterList(adapter.parameters.values())
    optimizer = torch.optim.Adam(factors.parameters(), config.learning_rate)

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        set_rate(optimizer, config.learning_rate, step, config.steps, warmup=max(1, config.steps // 10))
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=random)))
        loss, gradients = task_gradient(adapter, usable, config, rng)
        for name, weight in adapter.parameters.items():
            weight.grad = gradients[name]
        nn.utils.clip_grad_norm_(list(factors.parameters()), 1.0)
        optimizer.step()
        return {"loss": loss}

    training = Training(
        f"adapter-start-{config.learner}",
        {"factors": factors},
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
    return lora


def task_gradient(
    adapter: Adapter, speakers: Sequence[Recordings], config: StartConfig, rng: np.random.Generator
) -> tuple[float, Mapping[str, torch.Tensor]]:
    """The query loss of a random task, and the meta-gradient for each factor; the adapter's factors are restored."""
    if config.learner == "joint":
        return _joint(adapter, speakers, config, rng)
    speaker = speakers[int(rng.integers(len(speakers)))]
    order = rng.permutation(len(speaker))
    support, query = (
        speaker.subset(order[: config.shots]),
        speaker.subset(order[config.shots : 2 * config.shots]),
    )
    start = adapter.state()
    steps = torch.optim.Adam(adapter.parameters.values(), config.inner_learning_rate)
    for _ in range(config.inner_steps):
        _backward(adapter, support, rng)
        steps.step()
    loss = _backward(adapter, query, rng)
    if config.learner == "fomaml":
        gradients = {name: _grad(weight) for name, weight in adapter.parameters.items()}
    else:
        steps.step()  # Reptile learns from the query recordings too
        gradients = {name: start[name] - weight.detach() for name, weight in adapter.parameters.items()}
    steps.zero_grad(set_to_none=True)
    adapter.restore(start)
    return loss, gradients


def _joint(
    adapter: Adapter, speakers: Sequence[Recordings], config: StartConfig, rng: np.random.Generator
) -> tuple[float, Mapping[str, torch.Tensor]]:
    count = config.shots * (config.inner_steps + 1)
    chosen = [speakers[int(i)] for i in rng.integers(len(speakers), size=count)]
    rows = [int(rng.integers(len(recordings))) for recordings in chosen]
    mixed = Recordings(
        [recordings.audio[i] for recordings, i in zip(chosen, rows, strict=True)],
        [recordings.texts[i] for recordings, i in zip(chosen, rows, strict=True)],
    )
    loss = _backward(adapter, mixed, rng)
    return loss, {name: _grad(weight) for name, weight in adapter.parameters.items()}


def _backward(adapter: Adapter, recordings: Recordings, rng: np.random.Generator) -> float:
    for weight in adapter.parameters.values():
        weight.grad = None
    audio = adapter.recogniser.perturb(recordings.audio, rng)
    loss = adapter.recogniser.loss(audio, recordings.texts)
    loss.backward()
    return float(loss.detach())


def _grad(weight: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
