"""Turns decoded tokens into segments with times."""

import math

import numpy as np

from metavox.recognisers.transcript import Segment
from metavox.recognisers.whisper.decoding import Decoded
from metavox.recognisers.whisper.features import SAMPLE_RATE_HZ
from metavox.recognisers.whisper.tokens import Tokens

LONG_S = 20.0  # a shorter window is one utterance, which may well end in silence
REST_S = 2.0  # a shorter rest is not decoded again
REST_DB = -20.0  # nor is a rest that is so much quieter than the window


def segments(decoded: Decoded, tokens: Tokens, duration_s: float) -> list[Segment]:
    """The texts between two times; a last text without a second time ends with the clip. Empty if there was
    no speech.
    """
    if decoded.silent:
        return []
    out: list[Segment] = []
    start_s, ids, log_probs = 0.0, list[int](), list[float]()

    def close(end_s: float) -> None:
        if text := tokens.decode(ids).strip():
            confidence = math.exp(sum(log_probs) / len(log_probs))
            total = sum(log_probs) + (decoded.end_log_prob if len(log_probs) == len(decoded.ids) else 0.0)
            out.append(Segment(text, min(start_s, duration_s), min(end_s, duration_s), confidence, (), total))

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


def rest_start_s(decoded: Decoded, segments_so_far: list[Segment], samples: np.ndarray) -> float | None:
    """The second from which a long window (time,) must be decoded again, or None.

    It is where the written text ends, if the audio continues as loudly.
    """
    duration_s = len(samples) / SAMPLE_RATE_HZ
    if duration_s < LONG_S or not segments_so_far or decoded.loops:
        return None
    start_s = segments_so_far[-1].end_s
    rest = samples[round(start_s * SAMPLE_RATE_HZ) :]
    if duration_s - start_s < REST_S:
        return None
    return start_s if _loudness_db(rest) - _loudness_db(samples) > REST_DB else None


def _loudness_db(samples: np.ndarray) -> float:
    """The loudness of the loudest frames but for the loudest tenth, in dB of full scale."""
    hop = SAMPLE_RATE_HZ // 10
    frames = np.square(np.pad(samples, (0, -len(samples) % hop))).reshape(-1, hop).mean(axis=1)
    return float(10 * np.log10(max(np.percentile(frames, 90), 1e-12)))
