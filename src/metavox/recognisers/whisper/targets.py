"""Texts as token sequences for the decoder, and their likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.recogniser import Predictions
from metavox.recognisers.whisper.features import SAMPLE_RATE_HZ
from metavox.recognisers.whisper.network import CrossAttention, Whisper
from metavox.recognisers.whisper.tokens import FRAME_S, Tokens

QUIET_DB = -35.0  # below the loudest frame; quieter audio at either end of the clip is not speech


@dataclass(frozen=True)
class Target:
    """`inputs` are the decoder's inputs: prompt, time, text, time. `labels` are the tokens that follow each
    of them.

    The first `uncounted` labels do not count; a time among the labels stands for any time.
    """

    inputs: list[int]
    labels: list[int]
    uncounted: int

    @property
    def counted(self) -> int:
        return len(self.labels) - self.uncounted


def target(text: str, samples: np.ndarray, prompt: list[int], tokens: Tokens, room: int) -> Target:
    """The target of a text for samples (time,), as one segment. Raises UserError if it is longer than the
    decoder's `room`.
    """
    ids = tokens.encode(" " + text) if text else []  # noise has an empty text
    start, end = (tokens.first_timestamp + round(time_s / FRAME_S) for time_s in speech_s(samples))
    sequence = [*prompt, start, *ids, end, tokens.end]
    if len(sequence) - 1 > room:
        raise UserError(
            f"a text of {len(ids)} tokens ({text[:30]!r}...), but the decoder holds {room - len(prompt) - 2}; "
            "cut the recording and its text into sentences"
        )
    return Target(sequence[:-1], sequence[1:], len(prompt))


def speech_s(samples: np.ndarray) -> tuple[float, float]:
    """Start and end of the speech in samples (time,), in seconds, by loudness."""
    hop = round(FRAME_S * SAMPLE_RATE_HZ)
    frames = np.square(np.pad(samples, (0, -len(samples) % hop))).reshape(-1, hop).mean(axis=1)
    if not len(frames) or frames.max() <= 0:
        return 0.0, len(samples) / SAMPLE_RATE_HZ
    loud = np.flatnonzero(frames >= frames.max() * 10 ** (QUIET_DB / 10))
    return float(loud[0] * FRAME_S), float((loud[-1] + 1) * FRAME_S)


def log_likelihoods(
    network: Whisper, attention: CrossAttention, targets: Sequence[Target], tokens: Tokens
) -> torch.Tensor:
    """The natural log-likelihood (texts,) of the counted tokens, for one text for each clip of `attention`.

    Any time counts as correct, because a recording's label does not say when its words were spoken.
    """
    device = network.decoder.embed_tokens.weight.device
    inputs = nn.utils.rnn.pad_sequence([torch.tensor(t.inputs) for t in targets], batch_first=True).to(device)
    out = network.decoder(inputs, attention)
    states = torch.cat([row[t.uncounted : len(t.inputs)] for row, t in zip(out, targets, strict=True)])
    labels = torch.cat([torch.tensor(t.labels[t.uncounted :]) for t in targets]).to(device)
    log_probs = network.decoder.logits(states).float().log_softmax(-1)
    any_time = log_probs[:, tokens.first_timestamp :].logsumexp(-1)
    label_log_probs = log_probs.gather(1, labels[:, None])[:, 0]
    label_log_probs = torch.where(labels >= tokens.first_timestamp, any_time, label_log_probs)
    return torch.stack([row.sum() for row in label_log_probs.split([t.counted for t in targets])])


def predictions(network: Whisper, attention: CrossAttention, target: Target, tokens: Tokens) -> Predictions:
    """What the decoder predicts for each counted label of a target, for the one clip of `attention`.

    All times together are the last class.
    """
    device = network.decoder.embed_tokens.weight.device
    out = network.decoder(torch.tensor([target.inputs], device=device), attention)[0, target.uncounted :]
    log_probs = network.decoder.logits(out).float().log_softmax(-1)
    any_time = log_probs[:, tokens.first_timestamp :].logsumexp(-1, keepdim=True)
    labels = torch.tensor(target.labels[target.uncounted :], device=device)
    written = (labels < tokens.first_timestamp) & (labels != tokens.end)
    return Predictions(torch.cat([log_probs[:, : tokens.first_timestamp], any_time], dim=1), written)
