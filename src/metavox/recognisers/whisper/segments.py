"""What the decoder wrote, as segments with times."""

import math

import numpy as np

from metavox.recognisers.transcript import Segment
from metavox.recognisers.whisper.decoding import Decoded
from metavox.recognisers.whisper.features import SAMPLE_RATE_HZ
from metavox.recognisers.whisper.tokens import Tokens

LONG_S = 20.0  # a window shorter than this is one utterance, whose end may well be silence
REST_S = 2.0  # shorter is not heard again
REST_DB = -20.0  # nor is what is so much softer than the window's loudest


def segments(decoded: Decoded, tokens: Tokens, duration_s: float) -> list[Segment]:
    """Each text between two times; a last text without a second time ends with the clip. Nothing where it was silent."""
    if decoded.silent:
        return []
    out: list[Segment] = []
    start_s, ids, log_probs = 0.0, list[int](), list[float]()

    def close(end_s: float) -> None:
        if text := tokens.decode(ids).strip():
            confidence = math.exp(sum(log_probs) / len(log_probs))
            out.append(Segment(text, min(start_s, duration_s), min(end_s, duration_s), confidence))

    for token, log_prob in zip(decoded.ids, decoded.log_probs, strict=True):
        if token < tokens.first_timestamp:
            ids.append(token)
            log_probs.append(log_prob)
            continue
        if ids:
            close(tokens.time(token))
        start_s, ids, log_probs = tokens.time(token), [], []
    if ids:
        close(duration_s)
    return out


def unheard(decoded: Decoded, found: list[Segment], samples: np.ndarray) -> float | None:
    """Second from which a long window (time,) has to be heard again: where what was written ends, though it goes on as
    loud. None where all was heard."""
    duration_s = len(samples) / SAMPLE_RATE_HZ
    if duration_s < LONG_S or not found or decoded.loops:
        return None
    from_s = found[-1].end_s
    rest = samples[round(from_s * SAMPLE_RATE_HZ) :]
    if duration_s - from_s < REST_S:
        return None
    return from_s if _loudness_db(rest) - _loudness_db(samples) > REST_DB else None


def _loudness_db(samples: np.ndarray) -> float:
    """Of the loudest half-second but for the loudest tenth, of full scale."""
    hop = SAMPLE_RATE_HZ // 10
    frames = np.square(np.pad(samples, (0, -len(samples) % hop))).reshape(-1, hop).mean(axis=1)
    return float(10 * np.log10(max(np.percentile(frames, 90), 1e-12)))
