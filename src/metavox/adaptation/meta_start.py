"""Where a low-rank adapter begins: a start from which a few steps on a few recordings of a speaker go a long way.

A task is a speaker. Reptile (Nichol, Achiam, Schulman 2018, section 2) moves the start towards what a speaker's
recordings made of it; FOMAML (Finn, Abbeel, Levine 2017, section 5.2) moves it against the slope that other recordings
of the speaker have there. Joint training, the baseline to beat, takes every speaker's recordings as one task.
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
    """A task has `shots` recordings to adapt to in `inner_steps` and as many to be judged by; one task a step."""

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
    """Prepared recordings of training speakers -> factors that an adapter of theirs may begin from.

    Checkpoints lie in `folder`; one of another `key` is not resumed. Every learner sees the same number of recordings
    a step, forward and back. Raises ValueError where no speaker has recordings for a task.
    """
    usable = [one for one in speakers if len(one) >= 2 * config.shots]
    if not usable:
        raise ValueError(f"no speaker has {2 * config.shots} recordings, which a task takes")
    adapter = Adapter(base, AdapterConfig("lora", config.rank, config.alpha, config.seed))
    factors = nn.ParameterList(adapter.parameters.values())
    optimizer = torch.optim.Adam(factors.parameters(), config.learning_rate)

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        set_rate(optimizer, config.learning_rate, step, config.steps, warmup=max(1, config.steps // 10))
        draw = np.random.default_rng(int(torch.randint(2**31, (), generator=random)))
        loss, slopes = task_gradient(adapter, usable, config, draw)
        for name, weight in adapter.parameters.items():
            weight.grad = slopes[name]
        nn.utils.clip_grad_norm_(list(factors.parameters()), 1.0)
        optimizer.step()
        return {"loss": loss}

    run = Training(
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
    run.run()
    made = adapter.delta({}).lora
    assert made is not None
    return made


def task_gradient(
    adapter: Adapter, speakers: Sequence[Recordings], config: StartConfig, draw: np.random.Generator
) -> tuple[float, Mapping[str, torch.Tensor]]:
    """The query loss of a task that is drawn, and the direction for each factor of the start, which stays as it was."""
    if config.learner == "joint":
        return _joint(adapter, speakers, config, draw)
    speaker = speakers[int(draw.integers(len(speakers)))]
    order = draw.permutation(len(speaker))
    support, query = speaker.some(order[: config.shots]), speaker.some(order[config.shots : 2 * config.shots])
    start = adapter.state()
    steps = torch.optim.Adam(adapter.parameters.values(), config.inner_learning_rate)
    for _ in range(config.inner_steps):
        _backward(adapter, support, draw)
        steps.step()
    loss = _backward(adapter, query, draw)
    if config.learner == "fomaml":
        slopes = {name: _grad(weight) for name, weight in adapter.parameters.items()}
    else:
        steps.step()  # Reptile learns from the query recordings too
        slopes = {name: start[name] - weight.detach() for name, weight in adapter.parameters.items()}
    steps.zero_grad(set_to_none=True)
    adapter.restore(start)
    return loss, slopes


def _joint(
    adapter: Adapter, speakers: Sequence[Recordings], config: StartConfig, draw: np.random.Generator
) -> tuple[float, Mapping[str, torch.Tensor]]:
    count = config.shots * (config.inner_steps + 1)
    chosen = [speakers[int(i)] for i in draw.integers(len(speakers), size=count)]
    rows = [int(draw.integers(len(one))) for one in chosen]
    mixed = Recordings(
        [one.audio[i] for one, i in zip(chosen, rows, strict=True)],
        [one.texts[i] for one, i in zip(chosen, rows, strict=True)],
    )
    loss = _backward(adapter, mixed, draw)
    return loss, {name: _grad(weight) for name, weight in adapter.parameters.items()}


def _backward(adapter: Adapter, recordings: Recordings, draw: np.random.Generator) -> float:
    for weight in adapter.parameters.values():
        weight.grad = None
    audio = adapter.recogniser.perturb(recordings.audio, draw)
    loss = adapter.recogniser.loss(audio, recordings.texts)
    loss.backward()
    return float(loss.detach())


def _grad(weight: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
