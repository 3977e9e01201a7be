"""Texts as the decoder is to write them, and how likely it is to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.whisper.features import SAMPLE_RATE_HZ
from metavox.recognisers.whisper.network import CrossAttention, Whisper
from metavox.recognisers.whisper.tokens import FRAME_S, Tokens

QUIET_DB = -35.0  # under the loudest frame: the clip before and after that is no speech


@dataclass(frozen=True)
class Target:
    """`given` is what the decoder reads: prompt, time, text, time. `follows` are the tokens that it is to write after
    them, of which the first `uncounted` do not count; a time among them stands for any time."""

    given: list[int]
    follows: list[int]
    uncounted: int

    @property
    def counted(self) -> int:
        return len(self.follows) - self.uncounted


def target(text: str, samples: np.ndarray, prompt: list[int], tokens: Tokens, room: int) -> Target:
    """The text of samples (time,) as one segment. Raises UserError where it is longer than the decoder's `room`."""
    ids = tokens.encode(" " + text) if text else []  # of noise there is nothing to write
    start, end = (tokens.first_timestamp + round(time_s / FRAME_S) for time_s in speech_s(samples))
    whole = [*prompt, start, *ids, end, tokens.end]
    if len(whole) - 1 > room:
        raise UserError(
            f"a text of {len(ids)} tokens ({text[:30]!r}...), the decoder holds {room - len(prompt) - 2}; "
            "cut the recording and its text into sentences"
        )
    return Target(whole[:-1], whole[1:], len(prompt))


def speech_s(samples: np.ndarray) -> tuple[float, float]:
    """Where the speech begins and ends in samples (time,), in seconds, by its loudness."""
    hop = round(FRAME_S * SAMPLE_RATE_HZ)
    frames = np.square(np.pad(samples, (0, -len(samples) % hop))).reshape(-1, hop).mean(axis=1)
    if not len(frames) or frames.max() <= 0:
        return 0.0, len(samples) / SAMPLE_RATE_HZ
    loud = np.flatnonzero(frames >= frames.max() * 10 ** (QUIET_DB / 10))
    return float(loud[0] * FRAME_S), float((loud[-1] + 1) * FRAME_S)


def log_likelihoods(
    network: Whisper, attention: CrossAttention, targets: Sequence[Target], tokens: Tokens
) -> torch.Tensor:
    """The natural log-likelihood (texts,) of the tokens that count, one text for each clip of `attention`.

    A time counts as right whichever it is: a recording's label does not say when its words were said.
    """
    device = network.decoder.embed_tokens.weight.device
    given = nn.utils.rnn.pad_sequence([torch.tensor(t.given) for t in targets], batch_first=True).to(device)
    out = network.decoder(given, attention)
    places = torch.cat([row[t.uncounted : len(t.given)] for row, t in zip(out, targets, strict=True)])
    follows = torch.cat([torch.tensor(t.follows[t.uncounted :]) for t in targets]).to(device)
    log_probs = network.decoder.logits(places).float().log_softmax(-1)
    any_time = log_probs[:, tokens.first_timestamp :].logsumexp(-1)
    right = log_probs.gather(1, follows[:, None])[:, 0]
    right = torch.where(follows >= tokens.first_timestamp, any_time, right)
    return torch.stack([part.sum() for part in right.split([t.counted for t in targets])])
