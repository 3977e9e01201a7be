"""Beam search of Whisper's decoder along a guide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from metavox.recognisers.guide import Reading
from metavox.recognisers.whisper.decoding import FORBIDDEN, Decoded, Rules
from metavox.recognisers.whisper.network import CrossAttention, Whisper
from metavox.recognisers.whisper.spellings import Allowed, Follower
from metavox.recognisers.whisper.tokens import Tokens

REPEATS, LONGEST_REPEATED = 4, 8  # a run of up to 8 tokens that is written four times in a row is a loop
LIKELIEST = 64  # tokens that are considered for each text where the guide allows many


@dataclass(frozen=True)
class _Text:
    """A text of the beam. `score` is its log-likelihood with the guide's weight."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    score: float
    reading: Reading
    spelt: str = ""  # in the form of `characters`; texts that differ in case or marks alone count as one
    parent: int = 0

    def extended(self, token: int, log_prob: float, weight: float, reading: Reading, part: str) -> "_Text":
        return _Text(
            (*self.ids, token),
            (*self.log_probs, log_prob),
            self.score + log_prob + weight,
            reading,
            self.spelt + part,
        )

    @property
    def rank(self) -> float:
        """The score per token, its end included, so that long texts compete with short ones."""
        return self.score / (len(self.ids) + 1)


@torch.inference_mode()
def search(
    network: Whisper,
    states: torch.Tensor,
    prompt: Sequence[int],
    rules: Rules,
    limit: int,
    beam: int,
    follower: Follower | None,
) -> Decoded:
    """The best text of at most `limit` tokens, without times, for states (1, time, dim) after `prompt`.

    `beam` texts are kept at each step. Along a strict guide only what it allows is considered, and the likeliest text
    wins; otherwise the one with the highest score per token. Without any text that may end, the result is empty and
    has the log-probability minus infinity.
    """
    decoder, tokens = network.decoder, rules.tokens
    limit = min(limit, network.dimensions.max_target_positions - len(prompt))
    attention = decoder.cross_attention(states, room=len(prompt) + limit)
    encoded = attention.encoded
    out = decoder(torch.tensor([list(prompt)], device=states.device), attention)
    at_start = list(prompt).index(tokens.start)
    no_speech = float(decoder.logits(out[0, at_start]).float().softmax(-1)[tokens.no_speech])
    guide = follower.guide if follower else None
    strict = guide is not None and guide.strict
    texts = [_Text((), (), 0.0, Reading(guide.start if guide else None))]
    finished: list[_Text] = []
    for step in range(limit):
        log_probs = _log_probs(decoder.logits(out[:, -1]), rules, first=step == 0)
        longer = _continued(texts, log_probs, follower, beam, tokens, finished)
        if not longer or _decided(finished, longer, strict, beam) or step + 1 == limit:
            break
        _reorder(attention, encoded, torch.tensor([text.parent for text in longer], device=states.device))
        texts = longer
        latest = torch.tensor([[text.ids[-1]] for text in texts], device=states.device)
        out = decoder(latest, attention)
    best = max(finished, key=(lambda text: text.score) if strict else (lambda text: text.rank), default=None)
    if best is None:
        return Decoded([], [], FORBIDDEN, no_speech, False, "")
    ids = list(best.ids[:-1])
    if strict:
        no_speech = 0.0  # the question is which text it is, not whether
    text = tokens.decode(ids).strip()
    return Decoded(ids, list(best.log_probs[:-1]), best.log_probs[-1], no_speech, True, text)


def _log_probs(logits: torch.Tensor, rules: Rules, first: bool) -> torch.Tensor:
    logits = logits.float()
    logits[:, list(rules.suppressed)] = FORBIDDEN
    logits[:, rules.tokens.end + 1 :] = FORBIDDEN
    if first:
        logits[:, list(rules.suppressed_first)] = FORBIDDEN
    return logits.log_softmax(-1).cpu()


def _continued(
    texts: list[_Text],
    log_probs: torch.Tensor,
    follower: Follower | None,
    beam: int,
    tokens: Tokens,
    finished: list[_Text],
) -> list[_Text]:
    """The best texts with one more token; those that end are added to `finished`."""
    candidates: dict[str, _Text] = {}
    for row, text in enumerate(texts):
        end = follower.guide.end(text.reading.state) if follower else 0.0
        end_log_prob = float(log_probs[row, tokens.end])
        if end is not None and end_log_prob > FORBIDDEN:
            finished.append(text.extended(tokens.end, end_log_prob, end, text.reading, ""))
        for token, log_prob, reading, weight in _following(text, log_probs[row], follower, beam, tokens):
            part = follower.parts[token] if follower and token in follower.parts else tokens.decode([token])
            if "\ufffd" in part:
                part = f"<{token}>"  # a part of a character
            if follower and not part.strip() and text.spelt[-1:] in ("", " "):
                continue  # one mark after another, which would go on for ever
            if not (follower and follower.guide.strict) and _loops((*text.ids, token)):
                continue
            one = replace(text.extended(token, log_prob, weight, reading, part), parent=row)
            key = " ".join(one.spelt.split()) + str(reading.space)
            if key not in candidates or candidates[key].score < one.score:
                candidates[key] = one
    return sorted(candidates.values(), key=lambda text: -text.score)[:beam]


def _loops(ids: tuple[int, ...]) -> bool:
    """Whether a text ends in a run of tokens that was just written several times."""
    return any(
        len(ids) >= REPEATS * size and ids[-REPEATS * size :] == ids[-size:] * REPEATS
        for size in range(1, LONGEST_REPEATED + 1)
    )


def _following(
    text: _Text, log_probs: torch.Tensor, follower: Follower | None, beam: int, tokens: Tokens
) -> Iterator[tuple[int, float, Reading, float]]:
    """The likeliest tokens after a text that the guide allows: token, log-probability, reading and weight."""
    allowed = follower.allowed(text.reading) if follower and follower.guide.strict else None
    if allowed is not None:
        yield from _best_of(allowed, log_probs, 4 * beam)
        return
    values, ids = log_probs[: tokens.end].topk(LIKELIEST if follower else 2 * beam)
    for value, token in zip(values.tolist(), ids.tolist(), strict=True):
        step = follower.step(text.reading, token) if follower else (text.reading, 0.0)
        if step is not None and value > FORBIDDEN:
            yield token, value, *step
    favoured = follower.favoured(text.reading) if follower else None
    if favoured is not None:
        yield from _best_of(favoured, log_probs, 4 * beam)


def _best_of(
    allowed: Allowed, log_probs: torch.Tensor, count: int
) -> Iterator[tuple[int, float, Reading, float]]:
    ids, steps = allowed
    values, order = log_probs[ids].topk(min(len(ids), count))
    for value, i in zip(values.tolist(), order.tolist(), strict=True):
        if value > FORBIDDEN:
            yield int(ids[i]), value, *steps[i]


def _decided(finished: list[_Text], texts: list[_Text], strict: bool, beam: int) -> bool:
    """Whether no continuation can win any more, or there are enough texts to choose from."""
    if strict:
        return bool(finished) and max(text.score for text in finished) >= texts[0].score
    return len(finished) >= beam and max(text.rank for text in finished) >= max(t.score for t in texts) / (
        len(texts[0].ids) + 1
    )


def _reorder(
    attention: CrossAttention, encoded: list[tuple[torch.Tensor, torch.Tensor]], rows: torch.Tensor
) -> None:
    """Keep the caches of these rows; all rows share the keys and values of the one clip."""
    for layer in attention.cache:
        layer.keep(rows)
    attention.encoded = [
        (keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1)) for keys, values in encoded
    ]
