"""Word times of Whisper."""

from collections.abc import Callable

import numpy as np
import pytest

from metavox.recognisers.recogniser import DecodeOptions
from metavox.recognisers.whisper.recogniser import WhisperRecogniser
from metavox.recognisers.whisper.words import align


def test_alignment_follows_the_attention() -> None:
    attention = np.full((3, 12), -1.0)
    attention[0, :4], attention[1, 4:9], attention[2, 9:] = 1.0, 1.0, 1.0
    assert align(attention).tolist() == [0, 4, 9]
    assert align(np.zeros((5, 2))).max() <= 1


def test_all_words_have_times_in_order(
    make_recogniser: Callable[..., WhisperRecogniser], clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    for transcript in recogniser.transcribe(clips, DecodeOptions(word_times=True)):
        for segment in transcript.segments:
            assert "".join(w.text for w in segment.words).replace(" ", "") == segment.text.replace(" ", "")
            times = [time for word in segment.words for time in (word.start_s, word.end_s)]
            assert times == sorted(times)
            assert segment.start_s <= times[0]
            assert times[-1] <= segment.end_s
            assert all(0 < word.confidence <= 1 for word in segment.words)


def test_silence_has_no_words(tiny_en: WhisperRecogniser) -> None:
    pytest.importorskip("soundfile")
    silence = np.zeros(16000, np.float32)
    for transcript in tiny_en.transcribe([silence], DecodeOptions(word_times=True)):
        assert transcript.segments == ()
