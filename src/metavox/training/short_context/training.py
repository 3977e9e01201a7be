"""Training of the short-context adapter on distillation targets."""

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
from metavox.training.short_context.teacher import STATE_STRIDE, DistillationTarget

BATCH_S = 64.0  # total context of a batch


def linear_weights(network: nn.Module) -> tuple[str, ...]:
    """Names of the weights of all linear layers."""
    return tuple(
        f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Linear)
    )


def train(
    network: Whisper,
    digest: str,
    targets: Sequence[DistillationTarget],
    config: ShortContextConfig,
    folder: Path,
    checkpoint_every: int = 100,
) -> tuple[Delta, pd.DataFrame]:
    """Train the adapter for the base model `digest`; returns its delta and the history of losses, with a row per step.

    Checkpoints are kept in `folder`.
    """
    view = shared_view(network)
    layers = {}
    random = torch.Generator().manual_seed(config.seed)
    for name in linear_weights(network):
        weight = network.get_parameter(name)
        a = torch.randn(config.rank, weight.shape[1], generator=random) / math.sqrt(weight.shape[1])
        b = torch.zeros(weight.shape[0], config.rank)
        layers[name] = set_lora(view, name, a, b, config.alpha / config.rank)
    factors = nn.ParameterList([p for layer in layers.values() for p in (layer.lora_a, layer.lora_b)])
    factors.requires_grad_(True)
    optimizer = torch.optim.Adam(factors.parameters(), betas=(0.9, 0.98))

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        set_rate(optimizer, config.learning_rate, step, config.steps, warmup=min(30, config.steps // 10 + 1))
        batch, context = draw(targets, config, random)
        tokens, states = losses(view, batch, context, timed=float(torch.rand((), generator=random)) < 0.67)
        loss = step_if_finite(
            tokens + config.states_weight * states, optimizer, list(factors.parameters()), clip=1.0
        )
        return {"loss": loss, "tokens": float(tokens.detach()), "states": float(states.detach())}

    training = Training(
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
    history = training.run()
    return _delta(layers, digest, config), history


def _delta(layers: dict[str, LoRALinear], digest: str, config: ShortContextConfig) -> Delta:
    factors = {
        name: (layer.lora_a.detach().clone(), layer.lora_b.detach().clone()) for name, layer in layers.items()
    }
    about = {"made_by": "short context", "short_context": asdict(config)}
    return Delta(digest, lora=LoRA(config.rank, config.alpha, factors), about=about)


def draw(
    targets: Sequence[DistillationTarget], config: ShortContextConfig, random: torch.Generator
) -> tuple[list[DistillationTarget], int]:
    """Draw a batch of targets of similar length, and its number of frames of context."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=random))

    last = int(torch.randint(len(targets), (), generator=random))
    per_s = SAMPLE_RATE_HZ // HOP
    longest = targets[last].mels.shape[1]
    context = min(3000, 2 * round((longest + per_s * uniform(*config.padding_s)) / 2))
    if uniform(0, 1) < config.full:
        context = 3000
    count = max(2, min(16, round(BATCH_S * per_s / context)))
    return list(targets[max(0, last + 1 - count) : last + 1]), context


def losses(
    network: Whisper, batch: Sequence[DistillationTarget], context: int, timed: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of the token probabilities (mean divergence from the targets, in nats) and of the encoder states (mean
    squared error relative to the mean square of the targets), with the clips padded to `context` frames."""
    kind = "timed" if timed else "plain"
    mels = torch.stack([padded(target.mels.float(), context) for target in batch])
    lengths = [len(getattr(target, f"{kind}_ids")) for target in batch]
    ids = nn.utils.rnn.pad_sequence([getattr(x, f"{kind}_ids").long() for x in batch], batch_first=True)
    with half_precision():
        states = network.encoder(mels)
        out = network.decoder(ids, network.decoder.cross_attention(states))
        positions = torch.cat([row[:n] for row, n in zip(out, lengths, strict=True)])
        logits = network.decoder.logits(positions)
    likely = torch.cat([getattr(target, f"{kind}_likely") for target in batch]).long()
    target_log_probs = torch.cat([getattr(target, f"{kind}_log_probs") for target in batch]).float()
    return divergence(logits.float(), likely, target_log_probs), _state_loss(states.float(), batch)


def divergence(logits: torch.Tensor, likely: torch.Tensor, target_log_probs: torch.Tensor) -> torch.Tensor:
    """Mean Kullback-Leibler divergence of softmax(logits) from target distributions; `logits` is (positions, vocabulary).

    The targets are known only for the tokens `likely` (positions, k), as `target_log_probs` (positions, k); all other
    tokens are treated as a single one.
    """
    log_probs = logits.log_softmax(-1).gather(1, likely)
    rest, target_rest = _remaining(log_probs), _remaining(target_log_probs)
    total = (target_log_probs.exp() * (target_log_probs - log_probs)).sum(-1) + target_rest * (
        target_rest.log() - rest.log()
    )
    return total.mean()


def _remaining(log_probs: torch.Tensor) -> torch.Tensor:
    return (1 - log_probs.exp().sum(-1)).clamp(min=1e-5)


def _state_loss(states: torch.Tensor, batch: Sequence[DistillationTarget]) -> torch.Tensor:
    pairs = [
        (row[: STATE_STRIDE * len(target.states) : STATE_STRIDE], target.states.float())
        for row, target in zip(states, batch, strict=True)
        if len(target.states)
    ]
    if not pairs:
        return states.new_zeros(())
    student, teacher = (torch.cat(side) for side in zip(*pairs, strict=True))
    return (student - teacher).square().mean() / teacher.square().mean()


def padded(mels: torch.Tensor, frames: int) -> torch.Tensor:
    """Log-mels (bands, time) of a clip, padded with silence or cut to `frames`."""
    silence = max(
        float(mels.max()) - 2.0, -1.5
    )  # 8 decades below the loudest frame, as Whisper clamps log-mels
    return nn.functional.pad(mels[:, :frames], (0, max(0, frames - mels.shape[1])), value=silence)
