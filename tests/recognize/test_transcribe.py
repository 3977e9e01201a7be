"""Recordings to text: windows that cover everything once, enrolled words, and what is none of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from metavox.audio.features import LogMel, extract
from metavox.learn.adapt import EnrolConfig, enrol_words
from metavox.recognisers.conformer.delta import Delta
from metavox.recognisers.conformer.network import Network
from metavox.recognize.transcribe import WINDOW_S, _windows, recognise_word, transcribe

RATE = 16000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def melody(pitches: tuple[int, ...], seed: int) -> np.ndarray:
    time = np.arange(RATE // 4) / RATE
    tones = np.concatenate([0.3 * np.sin(2 * np.pi * p * time) for p in pitches])
    return (tones + np.random.default_rng(seed).normal(0, 0.003, len(tones))).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 20.0, 20.01, 47.3, 101.0])
def test_windows_cover_everything_once(seconds: float) -> None:
    samples = noise(seconds)
    windows = _windows(samples, RATE)
    np.testing.assert_array_equal(np.concatenate([part for part, _ in windows]), samples)
    starts = np.cumsum([0, *(len(part) for part, _ in windows[:-1])]) / RATE
    np.testing.assert_allclose([start for _, start in windows], starts)
    assert all(len(part) <= WINDOW_S * RATE for part, _ in windows)


@pytest.mark.parametrize("level", [0.0, 0.6])
def test_a_window_is_cut_in_the_pause(level: float) -> None:
    samples = noise(30.0)
    pause = slice(round(13.4 * RATE), round(13.8 * RATE))
    samples[pause] *= level
    _, (_, start) = _windows(samples, RATE)
    assert 13.4 <= start <= 13.8


def test_times_of_words_rise_and_stay_inside_their_segment(make_model: Callable[..., Network]) -> None:
    model = make_model()
    with torch.no_grad():
        model.ctc.weight.mul_(8)
    for seconds in (1.0, 0.333, 25.0):
        transcript = transcribe(model, noise(seconds))
        assert transcript.duration_s == pytest.approx(seconds, abs=1e-3)
        last = 0.0
        for segment in transcript.segments:
            assert segment.start_s == pytest.approx(last)
            last = segment.end_s
            times = [t for w in segment.words for t in (w.start_s, w.end_s)]
            assert times == sorted(times)
            assert all(segment.start_s <= t <= segment.end_s for t in times)
            assert segment.text == " ".join(w.text for w in segment.words)
        assert last == pytest.approx(seconds, abs=1e-3)
        assert sum(len(s.words) for s in transcript.segments) > 0


def test_the_last_frame_does_not_end_after_the_recording(make_model: Callable[..., Network]) -> None:
    model = make_model()
    with torch.no_grad():
        model.ctc.weight.zero_()
        model.ctc.bias.zero_()
        model.ctc.bias[5] = 9.0
    (segment,) = transcribe(model, noise(0.03)).segments
    assert [w.text for w in segment.words] == [model.config.alphabet[4]]
    assert segment.words[0].end_s == segment.end_s == pytest.approx(0.03)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(RATE), np.ones(1)])
def test_nothing_to_hear_is_no_error(make_model: Callable[..., Network], samples: np.ndarray) -> None:
    transcript = transcribe(make_model(), samples.astype(np.float32))
    assert len(transcript.segments) == 1
    assert isinstance(transcript.text, str)


@pytest.fixture
def enrolled(make_model: Callable[..., Network]) -> tuple[Network, Delta]:
    model = make_model()
    transform = LogMel(model.config.features)
    words = {"up": (300, 600, 1200), "down": (3000, 900, 250)}
    clips = [(word, melody(pitches, seed)) for word, pitches in words.items() for seed in range(3)]
    mels = [extract(samples, transform) for _, samples in clips]
    delta = enrol_words(
        model, "base", mels, [word for word, _ in clips], EnrolConfig(views=0, spelling=False)
    )
    return model, delta


def test_an_enrolled_word_is_recognised(enrolled: tuple[Network, Delta]) -> None:
    model, delta = enrolled
    for word, pitches in (("up", (300, 600, 1200)), ("down", (3000, 900, 250))):
        guess = recognise_word(model, melody(pitches, 99), delta)
        assert guess.word == word
        similarities = [value for _, value in guess.similarities]
        assert similarities == sorted(similarities, reverse=True)
        transcript = transcribe(model, melody(pitches, 99), delta)
        assert transcript.text == word
        assert transcript.segments[0].end_s == pytest.approx(0.75)


def test_an_unknown_sound_and_a_long_recording_are_not(enrolled: tuple[Network, Delta]) -> None:
    model, delta = enrolled
    guess = recognise_word(model, noise(0.75), delta)
    assert guess.word is None
    assert {word for word, _ in guess.similarities} == {"up", "down"}
    assert transcribe(model, noise(0.75), delta) == transcribe(model, noise(0.75))
    long = np.tile(melody((300, 600, 1200), 0), 5)
    assert transcribe(model, long, delta) == transcribe(model, long)


def test_a_delta_without_words_enrols_none(make_model: Callable[..., Network]) -> None:
    model, samples = make_model(), noise(0.5)
    assert transcribe(model, samples, Delta("base")) == transcribe(model, samples)
    with pytest.raises(ValueError, match="no enrolled word"):
        recognise_word(model, samples, Delta("base"))
