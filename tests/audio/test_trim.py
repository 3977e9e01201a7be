"""Trimming removes silence and background noise around speech, and no speech."""

import numpy as np
import pytest

from metavox.audio.trim import MARGIN_S, trimmed

RATE = 16000


def word(rate: int = RATE, seed: int = 0, length_s: float = 0.6) -> np.ndarray:
    """Two syllables with a pause between them, fading in and out."""
    random = np.random.default_rng(seed)
    time = np.arange(round(length_s * rate)) / rate
    tones = sum(np.sin(2 * np.pi * pitch * time) / n for n, pitch in enumerate((140, 620, 1400), 1))
    shape = np.abs(np.sin(2 * np.pi * time / length_s)) + 0.02
    return (0.2 * shape * (tones + 0.1 * random.normal(size=len(time)))).astype(np.float32)


def silence(seconds: float, floor_db: float | None, rate: int = RATE, seed: int = 1) -> np.ndarray:
    length = round(seconds * rate)
    if floor_db is None:
        return np.zeros(length, np.float32)
    return (10 ** (floor_db / 20) * np.random.default_rng(seed).normal(size=length)).astype(np.float32)


@pytest.mark.parametrize("floor_db", [None, -80.0, -60.0, -45.0])
@pytest.mark.parametrize("after_s", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("before_s", [0.0, 0.2, 1.0, 4.0])
def test_a_word_is_found_in_any_silence(before_s: float, after_s: float, floor_db: float | None) -> None:
    spoken = word()
    samples = np.concatenate([silence(before_s, floor_db), spoken, silence(after_s, floor_db, seed=2)])
    if floor_db is not None:
        samples = samples + silence(len(samples) / RATE, floor_db, seed=3)
    kept, start_s = trimmed(samples, RATE)
    start = round(start_s * RATE)
    np.testing.assert_array_equal(kept, samples[start : start + len(kept)])
    end_s = start_s + len(kept) / RATE
    assert start_s <= before_s + 0.03, "no part of the word is removed"
    assert end_s >= before_s + 0.6 - 0.03
    assert start_s >= before_s - MARGIN_S - 0.02 or start_s == 0
    assert end_s <= before_s + 0.6 + MARGIN_S + 0.02


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_times_do_not_depend_on_the_rate(rate: int) -> None:
    samples = np.concatenate([silence(1.0, -70.0, rate), word(rate), silence(1.0, -70.0, rate)])
    kept, start_s = trimmed(samples, rate)
    assert start_s == pytest.approx(1.0 - MARGIN_S, abs=0.03)
    assert len(kept) / rate == pytest.approx(0.6 + 2 * MARGIN_S, abs=0.06)


@pytest.mark.parametrize("level", [0.01, 0.1, 1.0, 4.0])
def test_trimming_does_not_depend_on_the_level(level: float) -> None:
    samples = np.concatenate([silence(1.0, -60.0), word(), silence(2.0, -60.0)])
    expected, kept = trimmed(samples, RATE), trimmed(level * samples, RATE)
    assert len(kept[0]) == pytest.approx(len(expected[0]), abs=0.03 * RATE)
    assert kept[1] == pytest.approx(expected[1], abs=0.03)


def test_a_pause_between_words_is_kept() -> None:
    spoken = np.concatenate([word(), silence(1.5, -60.0), word(seed=4)])
    kept, _ = trimmed(np.concatenate([silence(1.0, -60.0), spoken, silence(1.0, -60.0)]), RATE)
    assert len(kept) / RATE == pytest.approx(2.7 + 2 * MARGIN_S, abs=0.06)


@pytest.mark.parametrize("seconds", [0.3, 2.0, 30.0])
@pytest.mark.parametrize("kind", ["noise", "digital", "tone", "faint noise"])
def test_steady_recordings_are_not_trimmed(kind: str, seconds: float) -> None:
    samples = {
        "noise": silence(seconds, -20.0),
        "digital": silence(seconds, None),
        "faint noise": silence(seconds, -75.0),
        "tone": np.sin(np.arange(round(seconds * RATE)) * 0.2).astype(np.float32),
    }[kind]
    kept, start_s = trimmed(samples, RATE)
    assert kept is samples
    assert start_s == 0.0


@pytest.mark.parametrize(
    "samples", [np.zeros(0, np.float32), np.ones(1, np.float32), np.ones(400, np.float32)]
)
def test_very_short_recordings_are_not_trimmed(samples: np.ndarray) -> None:
    kept, start_s = trimmed(samples, RATE)
    assert kept is samples
    assert start_s == 0.0


def test_a_word_in_a_minute_of_silence_is_found() -> None:
    samples = np.concatenate([silence(40.0, -65.0), word(), silence(20.0, -65.0)])
    kept, start_s = trimmed(samples, RATE)
    assert start_s == pytest.approx(40.0 - MARGIN_S, abs=0.03)
    assert len(kept) / RATE == pytest.approx(0.6 + 2 * MARGIN_S, abs=0.06)


def test_the_input_is_not_modified() -> None:
    samples = np.concatenate([silence(1.0, None), word(), silence(1.0, None)])
    before = samples.copy()
    trimmed(samples, RATE)
    np.testing.assert_array_equal(samples, before)
