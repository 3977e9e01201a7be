"""Greedy and sampled decoding in batches, with Whisper's timestamp rules (Radford et al. 2022;
openai/whisper, decoding.py).
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from metavox.recognisers.whisper.network import Whisper
from metavox.recognisers.whisper.spellings import Spellings
from metavox.recognisers.whisper.tokens import Tokens

MAX_TOKENS = 224  # of a window of 30 s: half of the decoder's positions; the rest is for the prompt
TOKENS_PER_S, EXTRA_TOKENS = 12, 20  # nobody speaks faster: a longer text is a loop
MAX_COMPRESSION = 2.4  # ratio of a text's bytes by zlib; a text above it is a loop
MIN_LOG_PROB = -1.0  # mean over the tokens
MAX_NO_SPEECH = 0.6
FORBIDDEN = -math.inf


@dataclass(frozen=True)
class Rules:
    """Which tokens may be written: never `suppressed`, never `suppressed_first` at the start, the first time
    by `first_time`.

    With `timestamps`, times are written: the first token is a time, each text has one before and one after
    it, and times never go back.
    """

    tokens: Tokens
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    first_time: int = 50  # in steps of 20 ms
    timestamps: bool = True

    @classmethod
    def of(cls, tokens: Tokens, generation: dict[str, Any]) -> "Rules":
        """The rules of `generation_config.json`, by default those of openai/whisper."""
        suppressed = generation.get("suppress_tokens") or tokens.non_speech
        suppressed_first = generation.get("begin_suppress_tokens") or [*tokens.encode(" ")[:1], tokens.end]
        return cls(
            tokens,
            tuple({*(i for i in suppressed if i >= 0), tokens.no_timestamps}),
            tuple(i for i in suppressed_first if i >= 0),
            generation.get("max_initial_timestamp_index") or 50,
        )

    @cached_property
    def spellings(self) -> Spellings:
        """What each token that may be written writes."""
        return Spellings(self.tokens, self.suppressed)


@dataclass(frozen=True)
class Decoded:
    """A decoded text: `ids` without prompt and end, their natural log-probabilities, and that of the end.

    `complete` says whether the decoder wrote the end token.
    """

    ids: list[int]
    log_probs: list[float] = field(repr=False)
    end_log_prob: float
    no_speech: float
    complete: bool
    text: str

    @property
    def log_prob(self) -> float:
        """The mean log-probability of the tokens and the end."""
        return (sum(self.log_probs) + self.end_log_prob) / (len(self.log_probs) + 1)

    @property
    def loops(self) -> bool:
        """Whether the text never ends or repeats itself."""
        return not self.complete or compression(self.text) > MAX_COMPRESSION

    @property
    def silent(self) -> bool:
        """Whether the decoder found no speech."""
        return self.no_speech > MAX_NO_SPEECH and self.log_prob < MIN_LOG_PROB

    @property
    def doubtful(self) -> bool:
        return self.loops or (self.log_prob < MIN_LOG_PROB and not self.silent)


def compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def max_tokens(context_s: float) -> int:
    return min(MAX_TOKENS, int(EXTRA_TOKENS + TOKENS_PER_S * context_s))


@torch.inference_mode()
def decode(
    network: Whisper,
    states: torch.Tensor,
    prompts: Sequence[Sequence[int]],
    rules: Rules,
    limit: int | Sequence[int] = MAX_TOKENS,
    temperature: float = 0.0,
    random: torch.Generator | None = None,
) -> list[Decoded]:
    """Decode states (batch, time, dim) after `prompts` of equal length, up to `limit` tokens (one limit, or
    one for each).

    Takes the most likely token, or one drawn at `temperature`. No time is later than the end of the states.
    """
    decoder, tokens = network.decoder, rules.tokens
    prompt_ids = torch.tensor([list(prompt) for prompt in prompts], device=states.device)
    limit_of_each = [limit] * len(prompts) if isinstance(limit, int) else limit
    limits = torch.tensor(limit_of_each, device=states.device).clamp_max(
        network.dimensions.max_target_positions - prompt_ids.shape[1]
    )
    max_steps = int(limits.max())
    attention = decoder.cross_attention(states, room=prompt_ids.shape[1] + max_steps)
    out = decoder(prompt_ids, attention)
    start_logits = decoder.logits(out[:, (prompt_ids[0] == tokens.start).nonzero()[0, 0]])
    no_speech = start_logits.softmax(-1)[:, tokens.no_speech].tolist()
    texts = _Texts(rules, len(prompts), states.shape[1], states.device)
    logits = decoder.logits(out[:, -1])
    for step in range(max_steps):
        texts.write(logits, temperature, random)
        texts.finished |= limits[texts.rows] <= step + 1
        if texts.finished.all():
            break
        if (active := ~texts.finished).sum() <= len(active) / 2:
            texts.keep(active)
            attention.keep(active)
        logits = decoder.logits(decoder(texts.latest[:, None], attention)[:, -1])
    return texts.decoded(no_speech)


class _Texts:
    """The texts of a batch while they are decoded. Tensors have one row for each text that is still active."""

    def __init__(self, rules: Rules, batch: int, states: int, device: torch.device):
        self.rules, self.tokens = rules, rules.tokens
        self.ids: list[list[int]] = [[] for _ in range(batch)]
        self.log_probs: list[list[float]] = [[] for _ in range(batch)]
        self.steps = 0
        self.rows = torch.arange(batch, device=device)
        self.finished = torch.zeros(batch, dtype=torch.bool, device=device)
        self.latest = torch.zeros(batch, dtype=torch.long, device=device)
        # Whether the latest token is a time, whether the one before it is, and the earliest time allowed next.
        self.time = torch.zeros(batch, dtype=torch.bool, device=device)
        self.time_before = torch.ones(batch, dtype=torch.bool, device=device)
        self.earliest = torch.zeros(batch, dtype=torch.long, device=device)
        self.last_time = states  # the end of the states; a state lasts as long as a timestamp step
        self.suppressed = torch.tensor(rules.suppressed, dtype=torch.long, device=device)

    def keep(self, rows: torch.Tensor) -> None:
        for name in ("rows", "finished", "latest", "time", "time_before", "earliest"):
            setattr(self, name, getattr(self, name)[rows])

    def write(self, logits: torch.Tensor, temperature: float, random: torch.Generator | None) -> None:
        """Append a token to each text, given logits (rows, vocabulary)."""
        logits = self._allowed(logits.float())
        if temperature > 0:
            self.latest = torch.multinomial((logits / temperature).softmax(-1), 1, generator=random)[:, 0]
        else:
            self.latest = logits.argmax(-1)
        log_probs_of_latest = logits.gather(1, self.latest[:, None])[:, 0] - logits.logsumexp(-1)
        for row, token, log_prob, done in zip(
            self.rows.tolist(),
            self.latest.tolist(),
            log_probs_of_latest.tolist(),
            self.finished.tolist(),
            strict=True,
        ):
            if not done:
                self.ids[row].append(token)
                self.log_probs[row].append(log_prob)
        self.finished = self.finished | (self.latest == self.tokens.end)
        time = self.latest >= self.tokens.first_timestamp
        step = self.latest - self.tokens.first_timestamp
        # A time that closes a text may also open the next one; a time that opened one may not close it.
        closing = time & ~self.time & (self.steps > 0)
        self.earliest = torch.where(time, torch.where(closing, step, step + 1), self.earliest)
        self.time_before, self.time = self.time | (self.steps == 0), time
        self.steps += 1

    def _allowed(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits with every token that may not follow at minus infinity."""
        first, end = self.tokens.first_timestamp, self.tokens.end
        logits.index_fill_(1, self.suppressed, FORBIDDEN)
        if self.steps == 0:
            logits[:, list(self.rules.suppressed_first)] = FORBIDDEN
        if not self.rules.timestamps:
            logits[:, first:] = FORBIDDEN
            return logits
        if self.steps == 0:
            logits[:, :first] = FORBIDDEN
            logits[:, first + self.rules.first_time + 1 :] = FORBIDDEN
            return logits
        texts, times = logits[:, :first], logits[:, first:]
        steps = torch.arange(times.shape[1], device=logits.device)
        no_time = (self.time & self.time_before)[:, None] | (steps < self.earliest[:, None])
        times.masked_fill_(no_time | (steps > self.last_time), FORBIDDEN)
        logits[:, :end].masked_fill_((self.time & ~self.time_before)[:, None], FORBIDDEN)
        # Force a time if all times together are likelier than any text token.
        force_time = times.logsumexp(-1) > texts.amax(-1)
        texts.masked_fill_(force_time[:, None], FORBIDDEN)
        return logits

    def decoded(self, no_speech: list[float]) -> list[Decoded]:
        out = []
        for ids, log_probs, no_speech_prob in zip(self.ids, self.log_probs, no_speech, strict=True):
            complete = ids[-1:] == [self.tokens.end]
            end_log_prob = log_probs[-1] if complete else 0.0
            count = len(ids) - 1 if complete else len(ids)
            text = self.tokens.decode(ids[:count]).strip()
            out.append(Decoded(ids[:count], log_probs[:count], end_log_prob, no_speech_prob, complete, text))
        return out


@torch.inference_mode()
def detect_languages(network: Whisper, states: torch.Tensor, tokens: Tokens) -> list[str]:
    """The most likely language (ISO 639-1) of each of states (batch, time, dim), by the token after the
    start.
    """
    decoder = network.decoder
    out = decoder(
        torch.full((len(states), 1), tokens.start, device=states.device), decoder.cross_attention(states)
    )
    names, ids = list(tokens.languages), list(tokens.languages.values())
    return [names[i] for i in decoder.logits(out[:, -1])[:, ids].argmax(-1).tolist()]
