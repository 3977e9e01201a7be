"""Formants of synthetic vowels, of speech compared with Praat, and of degenerate signals."""

import math

import numpy as np
import parselmouth
import pytest
import torch

from metavox.audio.formants import BANDWIDTH_HZ, NEUTRAL_HZ, WIDEST_HZ, Formants
from tests.audio.voiced import RATE, SOUNDS, VOWELS, spoken, vowel


def formants(samples: np.ndarray, rate: int = RATE) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and bandwidths of F1..F3 in Hz, (frames, 3) each."""
    columns = Formants(rate, rate // 100)(torch.from_numpy(np.asarray(samples, np.float32))).double().numpy()
    return np.array(NEUTRAL_HZ) * np.exp(columns[:, :3]), BANDWIDTH_HZ * np.exp(columns[:, 3:])


def praat(samples: np.ndarray) -> np.ndarray:
    """F1..F3 (frames, 3) by Burg's method on resampled audio, without resonances that are too wide for a formant."""
    formant = parselmouth.Sound(samples.astype(np.float64), RATE).to_formant_burg(
        time_step=0.01,
        max_number_of_formants=5,
        maximum_formant=5500,
        window_length=0.025,
        pre_emphasis_from=50,
    )
    rows = []
    for time in np.arange(len(samples) // 160 + 1) / 100:
        hz = [formant.get_value_at_time(n, time) for n in range(1, 6)]
        width = [formant.get_bandwidth_at_time(n, time) for n in range(1, 6)]
        narrow = [f for f, b in zip(hz, width, strict=True) if b < WIDEST_HZ]
        rows.append([*narrow, *[np.nan] * 3][:3])
    return np.array(rows)


@pytest.mark.parametrize("period", [160, 123, 80])
@pytest.mark.parametrize("name", VOWELS)
def test_formants_of_a_synthetic_vowel(name: str, period: int) -> None:
    """Within 40 Hz or 3%: a predictor is drawn towards the nearest harmonic, which is up to 100 Hz away."""
    hz, width_hz = formants(vowel(VOWELS[name], period))
    np.testing.assert_allclose(np.median(hz[20:40], axis=0), VOWELS[name], atol=40, rtol=0.03)
    assert (np.median(width_hz[20:40], axis=0) < 400).all()


@pytest.mark.parametrize("name", VOWELS)
def test_formants_at_8_khz(name: str) -> None:
    hz, _ = formants(vowel(VOWELS[name], 64, rate=8000), 8000)
    np.testing.assert_allclose(np.median(hz[20:40], axis=0), VOWELS[name], atol=60, rtol=0.04)


@pytest.mark.parametrize("name", VOWELS)
def test_vowels_match_praat(name: str) -> None:
    samples = vowel(VOWELS[name], 123)
    ours, theirs = np.median(formants(samples)[0][20:40], axis=0), np.nanmedian(praat(samples)[20:40], axis=0)
    np.testing.assert_allclose(ours, theirs, rtol=0.03)


def test_speech_matches_praat() -> None:
    """In loud frames, half of the errors are below 1% and three quarters below 2.5%."""
    errors = []
    for samples in spoken():
        ours, theirs = formants(samples)[0], praat(samples)
        level = np.array([np.std(samples[max(0, i * 160 - 400) : i * 160 + 400]) for i in range(len(ours))])
        errors.append(np.abs(ours / theirs - 1)[level > 0.2 * level.max()])
    error = np.nan_to_num(np.concatenate(errors), nan=1.0)
    assert len(error) > 1000
    assert (np.median(error, axis=0) < 0.01).all()
    assert (np.percentile(error, 75, axis=0) < 0.025).all()


def test_a_shorter_vocal_tract_shifts_all_three_equally() -> None:
    transform = Formants(RATE, 160)
    long, short = (
        transform(torch.from_numpy(vowel(tuple(f * scale for f in (500, 1500, 2500)), 200)))[
            20:40, :3
        ].median(0)[0]
        for scale in (1.0, 1.12)
    )
    torch.testing.assert_close(short - long, torch.full((3,), math.log(1.12)), atol=0.04, rtol=0)


@pytest.mark.parametrize("sound", SOUNDS)
def test_degenerate_signals_have_defined_formants(sound: str) -> None:
    hz, width_hz = formants(SOUNDS[sound])
    assert len(hz) == len(SOUNDS[sound]) // 160 + 1
    assert ((hz > 50) & (hz < 5500)).all()
    assert ((width_hz > 9) & (width_hz < 1.001 * WIDEST_HZ)).all()


def test_silence_is_neutral_and_wide() -> None:
    hz, width_hz = formants(SOUNDS["silence"])
    np.testing.assert_allclose(hz, np.tile(NEUTRAL_HZ, (len(hz), 1)))
    np.testing.assert_allclose(width_hz, WIDEST_HZ, rtol=1e-6)


def test_a_batch_equals_its_items() -> None:
    transform = Formants(RATE, 160)
    batch = torch.from_numpy(np.stack([vowel(hz, 123) for hz in VOWELS.values()]))
    torch.testing.assert_close(transform(batch), torch.stack([transform(item) for item in batch]))
