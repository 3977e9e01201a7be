"""Greedy decoding in batches, with the rules for timestamps of Whisper (Radford et al. 2022; openai/whisper, decoding.py)."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from metavox.recognisers.whisper.network import Whisper
from metavox.recognisers.whisper.tokens import Tokens

LIMIT = (
    224  # tokens that a window of 30 s may hold; half of the decoder's positions, the rest is for a prompt
)
TOKENS_PER_S, TOKENS_MORE = 12, 20  # nobody says more: what goes on past that is a loop
MAX_COMPRESSION = 2.4  # of a text's bytes by zlib; more is a loop
MIN_LOG_PROB = -1.0  # mean of the tokens
MAX_NO_SPEECH = 0.6
NEVER = -math.inf


@dataclass(frozen=True)
class Rules:
    """What may be written: never `suppressed`, not `suppressed_first` at first, the first time by `first_time`.

    `timestamps` says whether times are written: then the first token is one, each text has one before and one after
    it, and they never go back.
    """

    tokens: Tokens
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    first_time: int = 50  # steps of 20 ms
    timestamps: bool = True

    @classmethod
    def of(cls, tokens: Tokens, generation: dict[str, Any]) -> "Rules":
        """From what `generation_config.json` says, else as openai/whisper has it."""
        never = generation.get("suppress_tokens") or tokens.non_speech
        first = generation.get("begin_suppress_tokens") or [*tokens.encode(" ")[:1], tokens.end]
        return cls(
            tokens,
            tuple({*(i for i in never if i >= 0), tokens.no_timestamps}),
            tuple(i for i in first if i >= 0),
            generation.get("max_initial_timestamp_index") or 50,
        )

    def without_times(self) -> "Rules":
        return replace(self, timestamps=False)


@dataclass(frozen=True)
class Decoded:
    """`ids` without prompt and end, each with its natural log-probability; `last` is that of the end.

    `whole` says whether the decoder ended by itself.
    """

    ids: list[int]
    log_probs: list[float] = field(repr=False)
    last: float
    no_speech: float
    whole: bool
    text: str

    @property
    def log_prob(self) -> float:
        """Mean over the tokens and the end."""
        return (sum(self.log_probs) + self.last) / (len(self.log_probs) + 1)

    @property
    def loops(self) -> bool:
        """Whether it goes on and on, or says the same again and again."""
        return not self.whole or compression(self.text) > MAX_COMPRESSION

    @property
    def silent(self) -> bool:
        """Whether there was nothing to hear, as far as the decoder knows."""
        return self.no_speech > MAX_NO_SPEECH and self.log_prob < MIN_LOG_PROB

    @property
    def doubtful(self) -> bool:
        return self.loops or (self.log_prob < MIN_LOG_PROB and not self.silent)


def compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def most_tokens(context_s: float) -> int:
    return min(LIMIT, int(TOKENS_MORE + TOKENS_PER_S * context_s))


@torch.inference_mode()
def decode(
    network: Whisper,
    states: torch.Tensor,
    prompts: Sequence[Sequence[int]],
    rules: Rules,
    limit: int | Sequence[int] = LIMIT,
    temperature: float = 0.0,
    random: torch.Generator | None = None,
) -> list[Decoded]:
    """What the decoder writes of states (batch, time, dim) after `prompts` of one length, up to `limit` tokens, of all or
    of each.

    The likeliest token each time, or one drawn at `temperature`. No time is later than the states end.
    """
    decoder, tokens = network.decoder, rules.tokens
    given = torch.tensor([list(prompt) for prompt in prompts], device=states.device)
    each = [limit] * len(prompts) if isinstance(limit, int) else limit
    limits = torch.tensor(each, device=states.device).clamp_max(
        network.dimensions.max_target_positions - given.shape[1]
    )
    most = int(limits.max())
    heard = decoder.cross_attention(states, room=given.shape[1] + most)
    out = decoder(given, heard)
    at_start = decoder.logits(out[:, (given[0] == tokens.start).nonzero()[0, 0]])
    no_speech = at_start.softmax(-1)[:, tokens.no_speech].tolist()
    writing = _Writing(rules, len(prompts), states.shape[1], states.device)
    logits = decoder.logits(out[:, -1])
    for step in range(most):
        writing.write(logits, temperature, random)
        writing.finished |= limits[writing.rows] <= step + 1
        if writing.finished.all():
            break
        if (going := ~writing.finished).sum() <= len(going) / 2:
            writing.keep(going)
            heard.keep(going)
        logits = decoder.logits(decoder(writing.newest[:, None], heard)[:, -1])
    return writing.decoded(no_speech)


class _Writing:
    """The texts of a batch as they grow. Tensors have one row for each text that is still followed."""

    def __init__(self, rules: Rules, batch: int, states: int, device: torch.device):
        self.rules, self.tokens = rules, rules.tokens
        self.ids: list[list[int]] = [[] for _ in range(batch)]
        self.log_probs: list[list[float]] = [[] for _ in range(batch)]
        self.steps = 0
        self.rows = torch.arange(batch, device=device)
        self.finished = torch.zeros(batch, dtype=torch.bool, device=device)
        self.newest = torch.zeros(batch, dtype=torch.long, device=device)
        # Whether the newest token is a time, the one before it is, and which time is the earliest to come.
        self.time = torch.zeros(batch, dtype=torch.bool, device=device)
        self.time_before = torch.ones(batch, dtype=torch.bool, device=device)
        self.earliest = torch.zeros(batch, dtype=torch.long, device=device)
        self.last_time = states  # the end of what was heard; an encoder state lasts as long as a time's step

    def keep(self, rows: torch.Tensor) -> None:
        for name in ("rows", "finished", "newest", "time", "time_before", "earliest"):
            setattr(self, name, getattr(self, name)[rows])

    def write(self, logits: torch.Tensor, temperature: float, random: torch.Generator | None) -> None:
        """One more token for each text, of logits (rows, vocabulary)."""
        logits = self._allowed(logits.float())
        if temperature > 0:
            self.newest = torch.multinomial((logits / temperature).softmax(-1), 1, generator=random)[:, 0]
        else:
            self.newest = logits.argmax(-1)
        chosen = logits.gather(1, self.newest[:, None])[:, 0] - logits.logsumexp(-1)
        for row, token, log_prob, done in zip(
            self.rows.tolist(), self.newest.tolist(), chosen.tolist(), self.finished.tolist(), strict=True
        ):
            if not done:
                self.ids[row].append(token)
                self.log_probs[row].append(log_prob)
        self.finished = self.finished | (self.newest == self.tokens.end)
        time = self.newest >= self.tokens.first_timestamp
        step = self.newest - self.tokens.first_timestamp
        # What closes a text may also open the next one; what opened one may not close it.
        closing = time & ~self.time & (self.steps > 0)
        self.earliest = torch.where(time, torch.where(closing, step, step + 1), self.earliest)
        self.time_before, self.time = self.time | (self.steps == 0), time
        self.steps += 1

    def _allowed(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits with all that may not come next at minus infinity."""
        first, end = self.tokens.first_timestamp, self.tokens.end
        logits[:, list(self.rules.suppressed)] = NEVER
        if self.steps == 0:
            logits[:, list(self.rules.suppressed_first)] = NEVER
        if not self.rules.timestamps:
            logits[:, first:] = NEVER
            return logits
        if self.steps == 0:
            logits[:, :first] = NEVER
            logits[:, first + self.rules.first_time + 1 :] = NEVER
            return logits
        logits[self.time & self.time_before, first:] = NEVER
        logits[self.time & ~self.time_before, :end] = NEVER
        steps = torch.arange(logits.shape[1] - first, device=logits.device)
        logits[:, first:].masked_fill_((steps < self.earliest[:, None]) | (steps > self.last_time), NEVER)
        # A time where all times together are likelier than any text.
        likelier = logits[:, first:].logsumexp(-1) > logits[:, :first].amax(-1)
        logits[likelier, :first] = NEVER
        return logits

    def decoded(self, no_speech: list[float]) -> list[Decoded]:
        out = []
        for ids, log_probs, silence in zip(self.ids, self.log_probs, no_speech, strict=True):
            whole = ids[-1:] == [self.tokens.end]
            last = log_probs[-1] if whole else 0.0
            kept = len(ids) - 1 if whole else len(ids)
            text = self.tokens.decode(ids[:kept]).strip()
            out.append(Decoded(ids[:kept], log_probs[:kept], last, silence, whole, text))
        return out


@torch.inference_mode()
def detect_languages(network: Whisper, states: torch.Tensor, tokens: Tokens) -> list[str]:
    """The likeliest language (ISO 639-1) of each of states (batch, time, dim), by the token after the start."""
    decoder = network.decoder
    out = decoder(
        torch.full((len(states), 1), tokens.start, device=states.device), decoder.cross_attention(states)
    )
    names, ids = list(tokens.languages), list(tokens.languages.values())
    return [names[i] for i in decoder.logits(out[:, -1])[:, ids].argmax(-1).tolist()]
