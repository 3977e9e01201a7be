"""Windows of long recordings: complete coverage, cuts in pauses, and segments shifted by the start of a window."""

import numpy as np
import pytest

from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.recognisers.windows import quiet_windows

RATE = 16000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


@pytest.mark.parametrize("longest_s", [5.0, 20.0, 30.0])
@pytest.mark.parametrize("seconds", [0.0, 0.5, 20.0, 20.01, 30.0, 47.3, 101.0])
def test_windows_cover_the_recording_once(seconds: float, longest_s: float) -> None:
    samples = noise(seconds)
    windows = quiet_windows(samples, RATE, longest_s)
    np.testing.assert_array_equal(np.concatenate([part for part, _ in windows]), samples)
    starts = np.cumsum([0, *(len(part) for part, _ in windows[:-1])]) / RATE
    np.testing.assert_allclose([start for _, start in windows], starts)
    lengths = [len(part) / RATE for part, _ in windows]
    assert max(lengths) <= longest_s
    assert all(length >= longest_s / 2 for length in lengths[:-1]), "no more windows than needed"


@pytest.mark.parametrize("level", [0.0, 0.6])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_windows_are_cut_in_pauses(level: float, rate: int) -> None:
    samples = noise(30.0)[: 30 * rate]
    samples[round(13.4 * rate) : round(13.8 * rate)] *= level
    _, (_, start) = quiet_windows(samples, rate, 20.0)
    assert 13.4 <= start <= 13.8


def test_silence_and_steady_signals_have_windows() -> None:
    for samples in (np.zeros(50 * RATE, np.float32), np.ones(50 * RATE, np.float32)):
        windows = quiet_windows(samples, RATE, 20.0)
        assert sum(len(part) for part, _ in windows) == len(samples)
        assert len(windows) <= 5


def test_a_shifted_segment_ends_at_the_limit() -> None:
    words = (Word("a", 0.0, 0.5, 1.0), Word("b", 0.6, 1.04, 0.5))
    shifted = Segment("a b", 0.0, 1.04, 0.75, words).later(10.0, 11.0)
    assert (shifted.start_s, shifted.end_s) == (10.0, 11.0)
    assert [(w.start_s, w.end_s) for w in shifted.words] == [(10.0, 10.5), (10.6, 11.0)]
    assert [w.text for w in shifted.words] == ["a", "b"]
    assert Segment("a", 1.0, 2.0, 1.0).later(3.0) == Segment("a", 4.0, 5.0, 1.0)


def test_the_text_of_a_transcript_joins_its_segments() -> None:
    segments = tuple(Segment(text, 0.0, 1.0, 1.0) for text in ("one two", "", "three"))
    assert Transcript(segments, 3.0).text == "one two three"
    assert Transcript((), 0.0).text == ""
