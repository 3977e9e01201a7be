"""Distillation targets: the output of the base model for clips at its full context."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from metavox.files import written_aside
from metavox.recognisers.whisper import (
    SAMPLE_RATE_HZ,
    STATE,
    WINDOW,
    Rules,
    Tokens,
    Whisper,
    decode,
    half_precision,
    log_mels,
    max_tokens,
)

TOP_TOKENS = 32  # whose log-probabilities are kept at each position
STATE_STRIDE = 4  # every fourth encoder state is kept
CLIPS_PER_FILE = 100


@dataclass(frozen=True)
class DistillationTarget:
    """A clip and the output of the base model for it at 30 s.

    `mels` (bands, frames) ends where the clip ends. `states` (frames / 8, dim) is every fourth encoder state, or has no
    rows for a clip without speech. With timestamps (`timed`) and without them (`plain`), `ids` (tokens,) is the input of
    the decoder, prompt and text, and `likely` (tokens, 32) are the most probable next tokens at each position, with
    natural log-probabilities `log_probs`. Floats are float16, token IDs int32.
    """

    mels: torch.Tensor
    states: torch.Tensor
    timed_ids: torch.Tensor
    timed_likely: torch.Tensor
    timed_log_probs: torch.Tensor
    plain_ids: torch.Tensor
    plain_likely: torch.Tensor
    plain_log_probs: torch.Tensor


def make_targets(
    network: Whisper, rules: Rules, batch: Sequence[tuple[np.ndarray, bool]], language: str = "en"
) -> list[DistillationTarget]:
    """Targets for a batch of clips, each with whether it is speech; clips with a doubtful transcript are left out."""
    window = network.dimensions.max_source_positions * STATE
    mels = log_mels([samples for samples, _ in batch], window, network.dimensions.num_mel_bins)
    with torch.inference_mode():
        with half_precision():
            states = network.encoder(mels)
        states = states.float()
        prompt = rules.tokens.prompt(language, "transcribe", timestamps=True)
        longest_s = max(len(samples) for samples, _ in batch) / SAMPLE_RATE_HZ
        transcripts = decode(network, states, [prompt] * len(batch), rules, max_tokens(longest_s))
        targets = []
        for row, ((samples, speech), transcript) in enumerate(zip(batch, transcripts, strict=True)):
            frames = min(mels.shape[2], -(-(len(samples) + WINDOW) // STATE) * 2)
            clip_mels = mels[row, :, :frames].half()
            if not speech:
                targets.append(_no_speech_target(rules.tokens, prompt, clip_mels, states.shape[2]))
            elif not transcript.doubtful and not transcript.silent:
                kept_states = states[row, : frames // 2 : STATE_STRIDE].half()
                targets.append(
                    _target(
                        network, rules.tokens, prompt, transcript.ids, clip_mels, kept_states, states[row]
                    )
                )
    return targets


def _target(
    network: Whisper,
    tokens: Tokens,
    prompt: list[int],
    text: list[int],
    mels: torch.Tensor,
    kept_states: torch.Tensor,
    states: torch.Tensor,
) -> DistillationTarget:
    decoder = network.decoder
    encoded = decoder.cross_attention(states[None])
    targets = []
    untimed = [token for token in text if token < tokens.end]
    for ids in ([*prompt, *text], [*prompt, tokens.no_timestamps, *untimed]):
        logits = decoder.logits(decoder(torch.tensor([ids]), encoded))[0]
        likely = logits.log_softmax(-1).topk(TOP_TOKENS)
        targets += [torch.tensor(ids, dtype=torch.int32), likely.indices.int(), likely.values.half()]
    return DistillationTarget(mels, kept_states, *targets)


def _no_speech_target(tokens: Tokens, prompt: list[int], mels: torch.Tensor, dim: int) -> DistillationTarget:
    """The target of a clip without speech: after the start token, "no speech" or the first timestamp; then the end."""
    targets = []
    for ids in ([*prompt, tokens.first_timestamp], [*prompt, tokens.no_timestamps]):
        likely = torch.arange(TOP_TOKENS, dtype=torch.int32).repeat(len(ids), 1)
        log_probs = torch.full((len(ids), TOP_TOKENS), -30.0)
        for position, token in enumerate(ids):
            next_token = ids[position + 1] if position + 1 < len(ids) else tokens.end
            likely[position, 0], log_probs[position, 0] = next_token, 0.0
            if token == tokens.start:
                likely[position, :2] = torch.tensor([tokens.no_speech, next_token])
                log_probs[position, :2] = torch.tensor([0.9, 0.1]).log()
        targets += [torch.tensor(ids, dtype=torch.int32), likely, log_probs.half()]
    return DistillationTarget(mels, torch.zeros(0, dim, dtype=torch.float16), *targets)


def write_targets(
    network: Whisper, rules: Rules, clips: Iterable[tuple[np.ndarray, bool]], folder: Path, batch: int = 8
) -> list[Path]:
    """Write files of targets, of `CLIPS_PER_FILE` clips each, and return their paths; existing files are kept."""
    files: list[Path] = []
    pending: list[tuple[np.ndarray, bool]] = []
    for index, clip in enumerate(clips):
        pending.append(clip)
        if (index + 1) % CLIPS_PER_FILE == 0:
            files.append(
                _write_shard(network, rules, pending, folder / f"{len(files):04d}.safetensors", batch)
            )
            pending = []
    if pending:
        files.append(_write_shard(network, rules, pending, folder / f"{len(files):04d}.safetensors", batch))
    return files


def _write_shard(
    network: Whisper, rules: Rules, clips: list[tuple[np.ndarray, bool]], file: Path, batch: int
) -> Path:
    if file.is_file():
        return file
    ordered = sorted(clips, key=lambda clip: len(clip[0]))  # clips of similar length share a batch
    targets = [
        target
        for first in range(0, len(ordered), batch)
        for target in make_targets(network, rules, ordered[first : first + batch])
    ]
    tensors = {
        f"{index:04d}.{field.name}": getattr(target, field.name).contiguous()
        for index, target in enumerate(targets)
        for field in fields(DistillationTarget)
    }
    with written_aside(file) as aside:
        save_file(tensors, aside)
    print(f"short context: file {file.stem}, {len(targets)} targets from {len(clips)} clips", flush=True)
    return file


def read_targets(files: Sequence[Path]) -> list[DistillationTarget]:
    """Read all targets, sorted by the length of the clip."""
    targets = []
    for path in files:
        with safe_open(path, "pt") as file:
            indices = sorted({name.split(".")[0] for name in file.keys()})  # noqa: SIM118 - a safetensors file is not a dict
            targets += [
                DistillationTarget(
                    **{
                        field.name: file.get_tensor(f"{index}.{field.name}")
                        for field in fields(DistillationTarget)
                    }
                )
                for index in indices
            ]
    return sorted(targets, key=lambda target: target.mels.shape[1])
