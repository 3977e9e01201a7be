"""Warnings about recordings of words and utterances, as samples and as log-mels."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from metavox.adaptation.checks import (
    LEAST_SPEECH_DB,
    content_bytes,
    has_speech,
    level_range_db,
    recording_warnings,
)
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network

RATE = 16000


@pytest.fixture
def recogniser(make_model: Callable[..., Network]) -> ConformerRecogniser:
    return ConformerRecogniser(make_model().requires_grad_(False), "small", "b" * 64)


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Bursts of noise and pauses, like five syllables per second."""
    random = np.random.default_rng(seed)
    length = round(seconds * RATE)
    level = np.repeat([0.1, 0.002], RATE // 10)[np.arange(length) % (RATE // 5)]
    return (level * random.normal(size=length)).astype(np.float32)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def four_recordings(form: str, recogniser: ConformerRecogniser) -> tuple[list, list[str]]:
    clips = [speech(0.8, seed) for seed in range(4)]
    return (recogniser.prepare(clips) if form == "mels" else clips), ["on", "on", "off", "off"]


@pytest.mark.parametrize("form", ["samples", "mels"])
def test_good_recordings_get_no_warning(recogniser: ConformerRecogniser, form: str) -> None:
    audio, labels = four_recordings(form, recogniser)
    assert recording_warnings(audio, labels, recogniser, words=True) == []
    assert recording_warnings(audio, labels, recogniser, words=False) == []


@pytest.mark.parametrize("form", ["samples", "mels"])
@pytest.mark.parametrize(
    ("faulty", "label", "expected"),
    [
        (speech(0.1), "on", "1 recordings are shorter than 0.15 s, too short for a word"),
        (speech(11), "on", "1 recordings are longer than 10 s; only their first 10 s are used"),
        (noise(0.8), "hush", "no speech in any of the 1 recordings of 'hush'; record it again"),
        (np.zeros(RATE, np.float32), "hush", "no speech in any of the 1 recordings of 'hush'"),
        (speech(0.8, 0), "on", "1 recordings are copies of others, which adds nothing"),
        (
            speech(0.8, 0),
            "off",
            "1 recordings have several labels, such as 'off' and 'on'; correct the labels",
        ),
        (
            speech(0.8, 9),
            "up",
            "1 of 3 words have only one recording, such as 'up'; the estimate leaves them out",
        ),
    ],
)
def test_each_problem_of_word_recordings_has_its_warning(
    recogniser: ConformerRecogniser, form: str, faulty: np.ndarray, label: str, expected: str
) -> None:
    audio, labels = four_recordings(form, recogniser)
    added = recogniser.prepare([faulty])[0] if form == "mels" else faulty
    warnings = recording_warnings([*audio, added], [*labels, label], recogniser, words=True)
    assert any(warning.startswith(expected) for warning in warnings), warnings
    assert not any("\n" in warning for warning in warnings)


def test_utterances_have_different_limits_from_words(recogniser: ConformerRecogniser) -> None:
    texts = ["a long one", "another"]
    assert recording_warnings([speech(29), speech(11)], texts, recogniser, words=False) == []
    (line,) = recording_warnings([speech(31), speech(11)], texts, recogniser, words=False)
    assert line == "1 recordings are longer than 30 s; they are left out; cut them into sentences"


def test_a_single_word_or_single_recordings_get_a_warning(recogniser: ConformerRecogniser) -> None:
    clips = [speech(0.8, seed) for seed in range(3)]
    (line,) = recording_warnings(clips, ["a", "b", "c"], recogniser, words=True)
    assert line.startswith("each word has only one recording, so accuracy cannot be estimated")
    (line,) = recording_warnings(clips, ["a", "a", "a"], recogniser, words=True)
    assert line.startswith("only one word, 'a'")
    assert recording_warnings(clips, ["a", "b", "c"], recogniser, words=False) == []


@pytest.mark.parametrize("level", [1e-3, 0.3])
def test_speech_is_distinguished_from_steady_sound_at_any_level(
    recogniser: ConformerRecogniser, level: float
) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    for samples, expected in ((speech(1.0) / 0.1, True), (noise(1.0) / 0.1, False), (tone, False)):
        assert has_speech(level * samples, RATE) is expected
        assert has_speech(recogniser.prepare([level * samples])[0], RATE) is expected


def test_very_short_recordings_have_no_speech(recogniser: ConformerRecogniser) -> None:
    for samples in (np.zeros(0, np.float32), np.ones(3, np.float32)):
        assert not has_speech(samples, RATE)
    assert not has_speech(torch.zeros(0, 16), RATE)
    assert len(recording_warnings([np.zeros(0, np.float32)] * 2, ["a", "b"], recogniser, words=False)) >= 2


def test_copies_have_the_same_content_in_any_container() -> None:
    samples = speech(0.3)
    wide = np.stack([samples, noise(0.3)], axis=1)
    assert (
        content_bytes(samples)
        == content_bytes(samples.copy())
        == content_bytes(wide[:, 0])
        == content_bytes(torch.from_numpy(wide)[:, 0])
    )
    assert content_bytes(samples) != content_bytes(samples[1:])


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_of_any_colour_is_not_speech(seconds: float, exponent: float) -> None:
    """White, pink and brown noise. The last two have most of their power in a few low frequencies, so it fluctuates."""
    random = np.random.default_rng(0)
    count = round(seconds * RATE)
    hz = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 1.0)
    for _ in range(10):
        spectrum = (random.normal(size=len(hz)) + 1j * random.normal(size=len(hz))) * hz ** (-exponent / 2)
        samples = np.fft.irfft(spectrum, count)
        assert level_range_db(0.1 * samples / np.abs(samples).max(), RATE) < LEAST_SPEECH_DB


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_hum_with_harmonics_is_not_speech(mains_hz: int) -> None:
    time = np.arange(2 * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * mains_hz * n * time) / n for n in (1, 2, 3, 5, 7))
    assert not has_speech(0.05 * np.asarray(hum, np.float32), RATE)
    assert not has_speech(0.05 * np.asarray(hum, np.float32) + 0.002 * noise(2.0), RATE)


def test_speech_at_0_db_snr_is_speech() -> None:
    clean = speech(1.0)
    noisy = clean + np.sqrt(np.square(clean).mean()) * noise(1.0, 7) / 0.1
    assert has_speech(noisy, RATE)
