"""Pitch, voicing and energy of known signals, of speech compared with Praat, and of degenerate signals."""

import math

import numpy as np
import parselmouth
import pytest
import scipy.signal
import torch

from metavox.audio.framing import FLOOR
from metavox.audio.prosody import PITCH_HZ, REFERENCE_HZ, Prosody
from tests.audio.voiced import RATE, SOUNDS, harmonic, spoken


def prosody(samples: np.ndarray, rate: int = RATE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """f0 (Hz), voicing and energy, (frames,) each."""
    columns = Prosody(rate, rate // 100)(torch.from_numpy(np.asarray(samples, np.float32))).numpy()
    return REFERENCE_HZ * np.exp(columns[:, 0]), columns[:, 1], columns[:, 2]


@pytest.mark.parametrize("rate", [16000, 8000])
@pytest.mark.parametrize("f0", [65.0, 100.0, 147.3, 220.0, 331.7, 480.0])
def test_pitch_is_accurate_to_a_fifth_of_a_percent(f0: float, rate: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.005, rate)
    pitch, voicing, _ = (x[5:-5] for x in prosody(harmonic(f0, 1.0, rate, 0.45 * rate) + noise, rate))
    np.testing.assert_allclose(pitch, f0, rtol=2e-3)
    assert voicing.min() > 0.75


def test_a_glide_is_followed() -> None:
    f0 = 110 * 2 ** (np.arange(2 * RATE) / RATE)  # two octaves in two seconds
    pitch = prosody(harmonic(f0, 2.0, top_hz=3000))[0]
    np.testing.assert_allclose(pitch[5:-5], f0[:: RATE // 100][5:-4], rtol=0.015)


def test_pitch_without_the_fundamental() -> None:
    telephone_band = scipy.signal.butter(6, (300, 3400), "bandpass", fs=RATE, output="sos")
    pitch = prosody(scipy.signal.sosfilt(telephone_band, harmonic(125.0)))[0]
    np.testing.assert_allclose(pitch[8:-8], 125.0, rtol=0.01)


def test_voicing_of_noise_and_of_voiced_sound_in_noise() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 5 * RATE)
    assert np.percentile(prosody(noise)[1], 99) < 0.4
    in_noise = harmonic(150.0, 5.0)
    in_noise += np.random.default_rng(2).normal(0, in_noise.std(), len(in_noise))  # 0 dB
    pitch, voicing, _ = prosody(in_noise)
    assert np.median(voicing) > 0.5
    assert np.mean(np.abs(np.log2(pitch / 150)) < 0.1) > 0.95


def test_pitch_of_speech_matches_praat() -> None:
    """Compares with Praat's autocorrelation method, which tracks a path through the whole recording.

    Of the frames that both call voiced, at most 1% differ by a fifth of the frequency or more. The others
    differ by less than 0.15% (median) and 1.2% (95th percentile).
    """
    ratios, agreed = [], []
    for samples in spoken():
        praat = parselmouth.Sound(samples.astype(np.float64), RATE).to_pitch_ac(
            time_step=0.01, pitch_floor=PITCH_HZ[0], pitch_ceiling=PITCH_HZ[1]
        )
        ours, voicing, _ = prosody(samples)
        theirs, times = praat.selected_array["frequency"], np.arange(len(ours)) / 100
        voiced = np.interp(times, praat.xs(), (theirs > 0).astype(float))
        both = (voiced == 1) & (voicing > 0.45)
        ratios.append(np.abs(ours[both] / np.interp(times, praat.xs(), theirs)[both] - 1))
        clear = (voiced == 0) | (voiced == 1)  # leaves out frames at a change between voiced and unvoiced
        agreed.append((voicing > 0.45)[clear] == voiced[clear])
    errors = np.concatenate(ratios)
    assert len(errors) > 1000
    assert np.mean(errors > 0.2) < 0.01
    near = errors[errors <= 0.2]
    assert np.median(near) < 0.0015
    assert np.percentile(near, 95) < 0.012
    assert np.mean(np.concatenate(agreed)) > 0.95


def test_gain_changes_only_the_energy() -> None:
    samples = harmonic(150.0)
    pitch, voicing, energy = prosody(samples)
    window = np.hanning(800)
    frame = samples[50 * 160 - 400 : 50 * 160 + 400].astype(float)
    expected = np.log(np.sum(((frame - frame.mean()) * window) ** 2) / np.sum(window**2))
    assert energy[50] == pytest.approx(expected, abs=1e-3)
    louder = prosody(10 * samples)
    np.testing.assert_allclose(louder[0], pitch, rtol=1e-4)
    np.testing.assert_allclose(louder[1], voicing, atol=1e-3)
    np.testing.assert_allclose(louder[2] - energy, math.log(100), atol=1e-3)


@pytest.mark.parametrize("sound", SOUNDS)
def test_degenerate_signals_have_defined_prosody(sound: str) -> None:
    pitch, voicing, energy = prosody(SOUNDS[sound])
    assert len(pitch) == len(SOUNDS[sound]) // 160 + 1
    for values in (pitch, voicing, energy):
        assert np.isfinite(values).all()
    assert ((pitch >= 0.99 * PITCH_HZ[0]) & (pitch <= 1.01 * PITCH_HZ[1])).all()
    assert ((voicing >= 0) & (voicing <= 1)).all()


def test_silence_has_no_pitch_and_the_energy_of_the_floor() -> None:
    for sound in ("silence", "underflow"):
        pitch, voicing, energy = prosody(SOUNDS[sound])
        np.testing.assert_allclose(pitch, REFERENCE_HZ)
        assert not voicing.any()
        np.testing.assert_allclose(energy, math.log(FLOOR), rtol=1e-6)
    middle = slice(10, 40)
    assert prosody(SOUNDS["constant"])[1][middle].max() < 1e-3
    np.testing.assert_allclose(prosody(SOUNDS["square"])[0][middle], RATE / (20 * np.pi), rtol=2e-3)


def test_a_batch_equals_its_items() -> None:
    transform = Prosody(RATE, 160)
    batch = torch.from_numpy(np.stack([harmonic(f0) for f0 in (90.0, 170.0, 400.0)]))
    torch.testing.assert_close(transform(batch), torch.stack([transform(item) for item in batch]))
