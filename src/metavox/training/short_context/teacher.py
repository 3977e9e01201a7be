"""What the base makes of clips at its whole context, kept to be imitated."""

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

LIKELIEST = 32  # tokens whose probability is kept at each place
SPARSE = 4  # every fourth state of the encoder is kept
SHARD = 100  # clips a file


@dataclass(frozen=True)
class Lesson:
    """A clip and what the base made of it at 30 s.

    mels: (bands, frames), to the clip's end and no further; states: (frames / 8, dim), every fourth of the encoder's,
    of no rows where there is nothing to imitate. With times (`timed`) and without (`plain`): ids (tokens,) are all that
    the decoder was given, prompt and text; after each of them `likely` (tokens, 32) are the likeliest to follow, of
    natural log-probabilities `log_probs`. Floats are float16, ids int32.
    """

    mels: torch.Tensor
    states: torch.Tensor
    timed_ids: torch.Tensor
    timed_likely: torch.Tensor
    timed_log_probs: torch.Tensor
    plain_ids: torch.Tensor
    plain_likely: torch.Tensor
    plain_log_probs: torch.Tensor


def teach(
    network: Whisper, rules: Rules, batch: Sequence[tuple[np.ndarray, bool]], language: str = "en"
) -> list[Lesson]:
    """Lessons of clips and whether each is speech; none of a clip that the base goes on about without end."""
    window = network.dimensions.max_source_positions * STATE
    mels = log_mels([samples for samples, _ in batch], window, network.dimensions.num_mel_bins)
    with torch.inference_mode():
        with half_precision():
            states = network.encoder(mels)
        states = states.float()
        prompt = rules.tokens.prompt(language, "transcribe", timestamps=True)
        longest_s = max(len(samples) for samples, _ in batch) / SAMPLE_RATE_HZ
        written = decode(network, states, [prompt] * len(batch), rules, max_tokens(longest_s))
        out = []
        for row, ((samples, speech), text) in enumerate(zip(batch, written, strict=True)):
            frames = min(mels.shape[2], -(-(len(samples) + WINDOW) // STATE) * 2)
            heard = mels[row, :, :frames].half()
            if not speech:
                out.append(_nothing(rules.tokens, prompt, heard, states.shape[2]))
            elif not text.doubtful and not text.silent:
                kept = states[row, : frames // 2 : SPARSE].half()
                out.append(_lesson(network, rules.tokens, prompt, text.ids, heard, kept, states[row]))
    return out


def _lesson(
    network: Whisper,
    tokens: Tokens,
    prompt: list[int],
    ids: list[int],
    mels: torch.Tensor,
    kept: torch.Tensor,
    states: torch.Tensor,
) -> Lesson:
    decoder = network.decoder
    heard = decoder.cross_attention(states[None])
    targets = []
    for given in ([*prompt, *ids], [*prompt, tokens.no_timestamps, *(i for i in ids if i < tokens.end)]):
        logits = decoder.logits(decoder(torch.tensor([given]), heard))[0]
        likely = logits.log_softmax(-1).topk(LIKELIEST)
        targets += [torch.tensor(given, dtype=torch.int32), likely.indices.int(), likely.values.half()]
    return Lesson(mels, kept, *targets)


def _nothing(tokens: Tokens, prompt: list[int], mels: torch.Tensor, dim: int) -> Lesson:
    """After the start comes "no speech", or the first time; then the end."""
    targets = []
    for given in ([*prompt, tokens.first_timestamp], [*prompt, tokens.no_timestamps]):
        likely = torch.arange(LIKELIEST, dtype=torch.int32).repeat(len(given), 1)
        log_probs = torch.full((len(given), LIKELIEST), -30.0)
        for place, token in enumerate(given):
            follows = given[place + 1] if place + 1 < len(given) else tokens.end
            likely[place, 0], log_probs[place, 0] = follows, 0.0
            if token == tokens.start:
                likely[place, :2] = torch.tensor([tokens.no_speech, follows])
                log_probs[place, :2] = torch.tensor([0.9, 0.1]).log()
        targets += [torch.tensor(given, dtype=torch.int32), likely, log_probs.half()]
    return Lesson(mels, torch.zeros(0, dim, dtype=torch.float16), *targets)


def write_lessons(
    network: Whisper, rules: Rules, material: Iterable[tuple[np.ndarray, bool]], folder: Path, batch: int = 8
) -> list[Path]:
    """Files of lessons, `SHARD` clips each; one that is there already is not made again."""
    files: list[Path] = []
    waiting: list[tuple[np.ndarray, bool]] = []
    for number, clip in enumerate(material):
        waiting.append(clip)
        if (number + 1) % SHARD == 0:
            files.append(
                _write_shard(network, rules, waiting, folder / f"{len(files):04d}.safetensors", batch)
            )
            waiting = []
    if waiting:
        files.append(_write_shard(network, rules, waiting, folder / f"{len(files):04d}.safetensors", batch))
    return files


def _write_shard(
    network: Whisper, rules: Rules, clips: list[tuple[np.ndarray, bool]], file: Path, batch: int
) -> Path:
    if file.is_file():
        return file
    ordered = sorted(clips, key=lambda clip: len(clip[0]))  # few wait for the longest of their batch
    lessons = [
        lesson
        for first in range(0, len(ordered), batch)
        for lesson in teach(network, rules, ordered[first : first + batch])
    ]
    tensors = {
        f"{number:04d}.{field.name}": getattr(lesson, field.name).contiguous()
        for number, lesson in enumerate(lessons)
        for field in fields(Lesson)
    }
    with written_aside(file) as aside:
        save_file(tensors, aside)
    print(f"short context: {file.stem}, {len(lessons)} lessons of {len(clips)} clips", flush=True)
    return file


def read_lessons(files: Sequence[Path]) -> list[Lesson]:
    """All lessons, shortest first."""
    lessons = []
    for path in files:
        with safe_open(path, "pt") as file:
            numbers = sorted({name.split(".")[0] for name in file.keys()})  # noqa: SIM118 - safetensors files are no dictionaries
            lessons += [
                Lesson(**{field.name: file.get_tensor(f"{n}.{field.name}") for field in fields(Lesson)})
                for n in numbers
            ]
    return sorted(lessons, key=lambda lesson: lesson.mels.shape[1])
