"""The adapter: the network learns to make the same of clips in a short context."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from metavox.recognisers.delta import Delta, LoRA
from metavox.recognisers.lora import LoRALinear, set_lora, shared_view
from metavox.recognisers.whisper import HOP, SAMPLE_RATE_HZ, Whisper, half_precision
from metavox.training.loop import Training, set_rate, step_if_finite
from metavox.training.short_context.config import ShortContextConfig
from metavox.training.short_context.teacher import SPARSE, Lesson

BATCH_S = 64.0  # seconds of context that a batch holds


def linear_weights(network: nn.Module) -> tuple[str, ...]:
    """Names of the weights of all linear layers."""
    return tuple(
        f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Linear)
    )


def train(
    network: Whisper,
    digest: str,
    lessons: Sequence[Lesson],
    config: ShortContextConfig,
    folder: Path,
    checkpoint_every: int = 100,
) -> tuple[Delta, pd.DataFrame]:
    """The adapter for the base `digest`, and the history of its losses. Checkpoints lie in `folder`."""
    view = shared_view(network)
    layers = {}
    start = torch.Generator().manual_seed(config.seed)
    for name in linear_weights(network):
        weight = network.get_parameter(name)
        a = torch.randn(config.rank, weight.shape[1], generator=start) / math.sqrt(weight.shape[1])
        b = torch.zeros(weight.shape[0], config.rank)
        layers[name] = set_lora(view, name, a, b, config.alpha / config.rank)
    factors = nn.ParameterList([p for layer in layers.values() for p in (layer.lora_a, layer.lora_b)])
    factors.requires_grad_(True)
    optimizer = torch.optim.Adam(factors.parameters(), betas=(0.9, 0.98))

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        set_rate(optimizer, config.learning_rate, step, config.steps, warmup=min(30, config.steps // 10 + 1))
        batch, context = draw(lessons, config, random)
        tokens, states = losses(view, batch, context, timed=float(torch.rand((), generator=random)) < 0.67)
        loss = step_if_finite(
            tokens + config.states_weight * states, optimizer, list(factors.parameters()), clip=1.0
        )
        return {"loss": loss, "tokens": float(tokens.detach()), "states": float(states.detach())}

    run = Training(
        "short-context",
        {"lora": factors},
        {"adam": optimizer},
        update,
        config.steps,
        config.seed,
        folder,
        key=f"{digest} {asdict(config)}",
        checkpoint_every=checkpoint_every,
    )
    history = run.run()
    return _delta(layers, digest, config), history


def _delta(layers: dict[str, LoRALinear], digest: str, config: ShortContextConfig) -> Delta:
    factors = {
        name: (layer.lora_a.detach().clone(), layer.lora_b.detach().clone()) for name, layer in layers.items()
    }
    about = {"made_by": "short context", "short_context": asdict(config)}
    return Delta(digest, lora=LoRA(config.rank, config.alpha, factors), about=about)


def draw(
    lessons: Sequence[Lesson], config: ShortContextConfig, random: torch.Generator
) -> tuple[list[Lesson], int]:
    """Neighbours in length, and the frames of context that all of them get."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=random))

    last = int(torch.randint(len(lessons), (), generator=random))
    per_s = SAMPLE_RATE_HZ // HOP
    longest = lessons[last].mels.shape[1]
    context = min(3000, 2 * round((longest + per_s * uniform(*config.padding_s)) / 2))
    if uniform(0, 1) < config.full:
        context = 3000
    count = max(2, min(16, round(BATCH_S * per_s / context)))
    return list(lessons[max(0, last + 1 - count) : last + 1]), context


def losses(
    network: Whisper, batch: Sequence[Lesson], context: int, timed: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the tokens' probabilities are from the lessons' (mean divergence, nats), and the encoder's states (mean
    square against that of the lessons'), with the clips padded to `context` frames."""
    kind = "timed" if timed else "plain"
    mels = torch.stack([padded(lesson.mels.float(), context) for lesson in batch])
    lengths = [len(getattr(lesson, f"{kind}_ids")) for lesson in batch]
    given = nn.utils.rnn.pad_sequence([getattr(x, f"{kind}_ids").long() for x in batch], batch_first=True)
    with half_precision():
        states = network.encoder(mels)
        out = network.decoder(given, network.decoder.hear(states))
        places = torch.cat([row[:n] for row, n in zip(out, lengths, strict=True)])
        logits = network.decoder.logits(places)
    likely = torch.cat([getattr(lesson, f"{kind}_likely") for lesson in batch]).long()
    wanted = torch.cat([getattr(lesson, f"{kind}_log_probs") for lesson in batch]).float()
    return divergence(logits.float(), likely, wanted), _states_distance(states.float(), batch)


def divergence(logits: torch.Tensor, likely: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean Kullback-Leibler divergence of softmax(logits: (places, vocabulary)) from a distribution of which the
    log-probabilities `wanted` (places, k) of the tokens `likely` are known; all others are one."""
    known = logits.log_softmax(-1).gather(1, likely)
    rest, wanted_rest = _remaining(known), _remaining(wanted)
    total = (wanted.exp() * (wanted - known)).sum(-1) + wanted_rest * (wanted_rest.log() - rest.log())
    return total.mean()


def _remaining(log_probs: torch.Tensor) -> torch.Tensor:
    return (1 - log_probs.exp().sum(-1)).clamp(min=1e-5)


def _states_distance(states: torch.Tensor, batch: Sequence[Lesson]) -> torch.Tensor:
    pairs = [
        (row[: SPARSE * len(lesson.states) : SPARSE], lesson.states.float())
        for row, lesson in zip(states, batch, strict=True)
        if len(lesson.states)
    ]
    if not pairs:
        return states.new_zeros(())
    ours, theirs = (torch.cat(side) for side in zip(*pairs, strict=True))
    return (ours - theirs).square().mean() / theirs.square().mean()


def padded(mels: torch.Tensor, frames: int) -> torch.Tensor:
    """Log-mels (bands, time) of a clip, followed by what silence is to it."""
    quiet = max(float(mels.max()) - 2.0, -1.5)  # 8 decades under the loudest, no less than the floor
    return nn.functional.pad(mels[:, :frames], (0, max(0, frames - mels.shape[1])), value=quiet)
