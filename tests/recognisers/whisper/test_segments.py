"""Segments from decoded tokens, and the part of a window that is decoded again."""

import numpy as np
import pytest

from metavox.recognisers.whisper.decoding import Decoded
from metavox.recognisers.whisper.segments import rest_start_s, segments
from metavox.recognisers.whisper.tokens import Tokens
from tests.recognisers.whisper.conftest import small_tokenizer

TOKENS = Tokens.of(small_tokenizer(), multilingual=False)


def decoded(*parts: str | float, no_speech: float = 0.0, log_prob: float = -0.1) -> Decoded:
    """A decoded window of texts and times in seconds."""
    ids: list[int] = []
    for part in parts:
        ids += TOKENS.encode(part) if isinstance(part, str) else [TOKENS.first_timestamp + round(part * 50)]
    return Decoded(ids, [log_prob] * len(ids), log_prob, no_speech, True, TOKENS.decode(ids))


def test_segments_have_the_times_around_their_text() -> None:
    parsed = segments(decoded(0.5, " One.", 1.0, 1.2, " Two.", 2.0), TOKENS, 3.0)
    assert [(s.text, s.start_s, s.end_s) for s in parsed] == [("One.", 0.5, 1.0), ("Two.", 1.2, 2.0)]
    assert parsed[0].confidence == pytest.approx(np.exp(-0.1))


def test_an_open_segment_ends_with_the_clip() -> None:
    parsed = segments(decoded(0.0, " One.", 1.0, 1.0, " Two"), TOKENS, 2.5)
    assert [(s.start_s, s.end_s) for s in parsed] == [(0.0, 1.0), (1.0, 2.5)]
    assert segments(decoded(0.0, " One.", 4.0), TOKENS, 2.5)[0].end_s == 2.5


def test_silence_has_no_segments() -> None:
    assert segments(decoded(0.0, TOKENS.decode([])), TOKENS, 1.0) == []
    assert segments(decoded(0.0, " you", 1.0, no_speech=0.9, log_prob=-2.0), TOKENS, 1.0) == []


def test_the_rest_of_a_long_window_is_decoded_again_if_it_is_loud() -> None:
    speech = np.random.default_rng(0).normal(0, 0.1, 25 * 16000).astype(np.float32)
    text = decoded(0.0, " One.", 12.0)
    parsed = segments(text, TOKENS, 25.0)
    assert rest_start_s(text, parsed, speech) == 12.0
    quiet = speech.copy()
    quiet[13 * 16000 :] *= 0.001
    assert rest_start_s(text, parsed, quiet) is None
    assert rest_start_s(text, parsed, speech[: 15 * 16000]) is None  # a short clip may end in noise
