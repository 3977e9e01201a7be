"""Speech in streams: windows that no division into chunks changes, and none where nobody speaks."""

from itertools import pairwise

import numpy as np
import pytest
from spoken import RATE, spoken

from metavox.audio.vad import VoiceActivity, speech_probabilities
from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.recognition.long import LongTranscription, by_channel
from metavox.recognition.speech import LONGEST_S, SpeechWindows, fitted, spoken_part, windows_of

SENTENCES = (
    "the rain has stopped",
    "we will go home now",
    "nobody knows the way",
    "there is a house on the hill",
)
TIME = np.arange(8 * RATE) / RATE
RANDOM = np.random.default_rng(0)


def pause(seconds: float) -> np.ndarray:
    return (1e-4 * np.random.default_rng(1).standard_normal(round(seconds * RATE))).astype(np.float32)


def talk(count: int, pause_s: float = 0.6) -> np.ndarray:
    parts = [part for i in range(count) for part in (spoken(SENTENCES[i % 4]), pause(pause_s))]
    return np.concatenate([pause(0.5), *parts])


NO_SPEECH = {
    "silence": np.zeros_like(TIME),
    "white noise": 0.1 * RANDOM.standard_normal(len(TIME)),
    "hum": 0.3 * np.sin(2 * np.pi * 50 * TIME) + 0.1 * np.sin(2 * np.pi * 150 * TIME),
    "a chord": 0.1 * sum(np.sin(2 * np.pi * hz * TIME) for hz in (261, 329, 392)),
    "a melody": np.concatenate(
        [
            0.4 * np.sin(2 * np.pi * 220 * 2 ** (k / 12) * TIME[:4000]) * np.exp(-TIME[:4000] * 8)
            for k in np.random.default_rng(2).integers(0, 24, 32)
        ]
    ),
}


@pytest.mark.parametrize("name", NO_SPEECH)
def test_what_is_no_speech_gives_no_window(name: str) -> None:
    samples = NO_SPEECH[name].astype(np.float32)
    assert spoken_part(samples, RATE) is None
    assert windows_of(np.tile(samples, 5), RATE) == []


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("before_s", [0.0, 2.0])
def test_the_spoken_part_of_a_recording(text: str, before_s: float) -> None:
    speech = spoken(text)
    part = spoken_part(np.concatenate([pause(before_s), speech, pause(1.5)]), RATE)
    assert part is not None
    assert part.start_s == pytest.approx(max(0.0, before_s - 0.5), abs=0.15)
    assert part.start_s + len(part.samples) / RATE == pytest.approx(
        before_s + len(speech) / RATE + 0.5, abs=0.25
    )
    assert 0.5 * len(speech) / RATE < part.speech_s <= len(part.samples) / RATE


def test_words_begin_and_end_where_somebody_speaks() -> None:
    words = (Word("one", 0.0, 1.1, 1.0), Word("two", 1.1, 2.9, 1.0), Word("three", 3.4, 3.6, 1.0))
    segment = fitted(Segment("one two three", 0.0, 4.0, 1.0, words), ((0.5, 1.0), (1.5, 2.0)))
    assert [(word.start_s, word.end_s) for word in segment.words] == [(0.5, 1.0), (1.5, 2.0), (3.4, 3.6)]
    assert (segment.start_s, segment.end_s) == (0.5, 3.6)
    alone = fitted(Segment("one", 0.0, 4.0, 1.0), ((0.5, 1.0), (1.5, 2.0)))
    assert (alone.start_s, alone.end_s) == (0.5, 2.0)
    assert fitted(segment, ()) == segment


@pytest.mark.parametrize("rate", [8000, 44100])
def test_other_rates_are_resampled(rate: int) -> None:
    count = round(len(spoken(SENTENCES[0])) * rate / RATE)
    samples = np.interp(
        np.arange(count) / rate, np.arange(len(spoken(SENTENCES[0]))) / RATE, spoken(SENTENCES[0])
    )
    assert (speech_probabilities(samples.astype(np.float32), rate) > 0.5).sum() > 10


def pushed(samples: np.ndarray, sizes: list[int]) -> list[tuple[float, int]]:
    finder, at, out = SpeechWindows(RATE), 0, []
    for size in sizes:
        out += list(finder.push(samples[at : at + size]))
        at += size
    out += [*finder.push(samples[at:]), *finder.end()]
    return [(window.start_s, len(window.samples)) for window in out]


@pytest.mark.parametrize("seed", range(4))
def test_windows_do_not_depend_on_chunks(seed: int) -> None:
    samples = talk(16, 0.7)
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 40_000, 30).tolist()
    assert pushed(samples, sizes) == pushed(samples, [])
    activity = VoiceActivity()
    chunks = np.split(samples[: 3 * RATE], [100, 101, 5000, 33_000])
    probabilities = np.concatenate([*(activity.push(chunk) for chunk in chunks), activity.end()])
    np.testing.assert_allclose(probabilities, speech_probabilities(samples[: 3 * RATE], RATE), atol=1e-5)


def test_windows_are_apart_and_hold_all_speech() -> None:
    samples = talk(24, 0.5)
    windows = windows_of(samples, RATE)
    edges = [(w.start_s, w.start_s + len(w.samples) / RATE) for w in windows]
    assert len(windows) > 1
    assert all(end <= start + 1e-9 for (_, end), (start, _) in pairwise(edges))
    assert all(end - start <= LONGEST_S + 1 for start, end in edges)
    inside = np.zeros(len(samples), bool)
    for start, end in edges:
        inside[round(start * RATE) : round(end * RATE)] = True
    loud = np.abs(samples) > 0.02
    assert (inside | ~loud).mean() > 0.999


def test_speech_without_a_pause_is_cut_once_at_each_place() -> None:
    samples = np.concatenate([spoken(SENTENCES[i % 4])[800:-800] for i in range(40)])
    windows = windows_of(samples, RATE)
    assert len(windows) > 1
    for one, other in pairwise(windows):
        end_s = one.start_s + len(one.samples) / RATE
        assert end_s <= other.start_s + 1e-9
        assert other.start_s - end_s < 0.7


def counted(windows: list[np.ndarray], language: str) -> list[Transcript]:
    """A transcript that says how long a window is; the first one finds out the language."""
    del language
    return [
        Transcript((Segment(str(len(w)), 0.0, len(w) / RATE, 1.0),), len(w) / RATE, "en") for w in windows
    ]


def long_text(samples: np.ndarray, sizes: list[int]) -> Transcript:
    long, segments, at = LongTranscription(counted, RATE), [], 0
    for size in sizes:
        segments += long.push(samples[at : at + size])
        at += size
    segments += [*long.push(samples[at:]), *long.end()]
    return long.transcript(segments)


@pytest.mark.parametrize("count", [3, 20])
def test_a_long_recording_has_the_same_text_wherever_it_is_divided(count: int) -> None:
    samples = talk(count)
    whole = long_text(samples, [])
    assert long_text(samples, [1, 5000, 40_000, 7, 123_456]) == whole
    assert long_text(samples, [480] * (len(samples) // 480)) == whole
    assert whole.language == "en"
    assert whole.speech_s is not None
    assert 0.3 < whole.speech_s / whole.duration_s < 1


def test_an_hour_of_silence_gives_nothing_and_is_not_kept() -> None:
    long = LongTranscription(counted, RATE)
    block = np.zeros(60 * RATE, np.float32)
    for _ in range(60):
        assert long.push(block) == []
    assert long.end() == []
    assert long.transcript([]).speech_s == 0
    assert len(long._windows._samples) < 2 * RATE


def test_channels_become_speakers_in_the_order_of_time() -> None:
    one = Transcript((Segment("a", 0, 1, 1.0), Segment("c", 4, 5, 1.0)), 6.0, "en", 2.0)
    other = Transcript((Segment("b", 2, 3, 1.0), Segment("", 3, 4, 0.0)), 5.0, "", 1.0)
    both = by_channel([one, other])
    assert [(s.text, s.speaker) for s in both.segments] == [("a", "1"), ("b", "2"), ("c", "1")]
    assert (both.duration_s, both.language, both.speech_s) == (6.0, "en", 3.0)
