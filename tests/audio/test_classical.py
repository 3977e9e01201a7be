"""Classical perturbations have the requested properties; adverse conditions are determined by their seed."""

import numpy as np
import pytest
import scipy.signal
import torch

from metavox.audio.adverse import ADVERSE
from metavox.audio.classical import (
    CODECS,
    bandwidth,
    clipped,
    coded,
    coloured,
    masked,
    noise,
    reverberate,
    room,
    speed,
    voice_changed,
)
from metavox.audio.conditions import CONDITIONS, Split

RATE = 16000


def speechlike(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    time = np.arange(round(RATE * seconds)) / RATE
    voiced = scipy.signal.sawtooth(2 * np.pi * 120 * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))
    return (0.2 * voiced + 0.01 * random.normal(size=len(time))).astype(np.float32)


def band_db(samples: np.ndarray, low: float, high: float) -> float:
    frequency, power = scipy.signal.welch(samples, RATE, nperseg=1024)
    return 10 * float(np.log10(power[(frequency >= low) & (frequency < high)].mean() + 1e-20))


@pytest.mark.parametrize("snr_db", [-5.0, 5.0, 20.0])
def test_noise_is_added_at_the_requested_ratio(snr_db: float) -> None:
    clean = speechlike()
    added = noise(clean, coloured(5000, 0.0, RATE, np.random.default_rng(1)), snr_db) - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(added**2)) == pytest.approx(snr_db, abs=0.1)


@pytest.mark.parametrize("slope_db", [0.0, 3.0, 6.0])
def test_coloured_noise_falls_by_its_slope(slope_db: float) -> None:
    samples = coloured(20 * RATE, slope_db, RATE, np.random.default_rng(2))
    octaves = [band_db(samples, 250 * 2**k, 500 * 2**k) for k in range(4)]
    assert np.diff(octaves) == pytest.approx([-slope_db] * 3, abs=0.4)


@pytest.mark.parametrize("t60_s", [0.2, 0.5, 1.0])
def test_a_room_has_the_requested_decay_time(t60_s: float) -> None:
    response = room(t60_s, RATE, np.random.default_rng(3))
    decay = 10 * np.log10(
        np.cumsum(response[1:][::-1] ** 2)[::-1] / np.sum(response[1:] ** 2) + 1e-12
    )  # Schroeder 1965
    fit = np.polyfit(
        np.flatnonzero((decay < -5) & (decay > -25)) / RATE, decay[(decay < -5) & (decay > -25)], 1
    )
    assert -60 / fit[0] == pytest.approx(t60_s, rel=0.15)
    wet = reverberate(speechlike(), response)
    assert np.std(wet) == pytest.approx(np.std(speechlike()), rel=0.02)


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_keeps_the_timing_and_changes_the_signal(codec: str) -> None:
    clean = speechlike()
    decoded = coded(clean, RATE, codec)  # type: ignore[arg-type]
    assert decoded.shape == clean.shape
    low_passed = [
        scipy.signal.sosfilt(scipy.signal.butter(6, 2500, fs=RATE, output="sos"), x) for x in (clean, decoded)
    ]
    assert np.corrcoef(low_passed[0][800:-800], low_passed[1][800:-800])[0, 1] > 0.9
    assert not np.array_equal(decoded, clean)
    if CODECS[codec][2] == 8000:  # type: ignore[index]
        assert band_db(decoded, 4600, 7800) < band_db(clean, 4600, 7800) - 20


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(ValueError, match="'amr'"):
        coded(speechlike(), RATE, "amr")  # type: ignore[arg-type]


def test_bandwidth_clipping_and_speed() -> None:
    clean = speechlike()
    narrow = bandwidth(clean, RATE, 300, 3400)
    assert band_db(narrow, 5500, 7800) < band_db(clean, 5500, 7800) - 20
    assert abs(band_db(narrow, 800, 2000) - band_db(clean, 800, 2000)) < 1
    loud = clipped(clean, 0.1)
    assert np.mean(np.abs(loud) >= np.abs(loud).max() - 1e-6) == pytest.approx(0.1, abs=0.01)
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    fast = speed(tone, RATE, 1.1)
    assert len(fast) == pytest.approx(RATE / 1.1, abs=2)
    peak = np.fft.rfftfreq(len(fast), 1 / RATE)[np.abs(np.fft.rfft(fast)).argmax()]
    assert peak == pytest.approx(484, abs=2)


def test_one_mask_per_axis() -> None:
    torch.manual_seed(0)
    mels = torch.rand(200, 50, 16) + 1
    hidden = masked(mels, 6, 10) != mels
    times, bands = hidden.all(dim=2).sum(dim=1), hidden.all(dim=1).sum(dim=1)
    assert int(times.max()) <= 10
    assert int(bands.max()) <= 6
    assert float(times.float().mean()) == pytest.approx(4.5, abs=0.8)


@pytest.mark.parametrize("name", ADVERSE)
def test_adverse_conditions_are_deterministic_and_audible(name: str) -> None:
    clean, others = speechlike(), [speechlike(1.7, seed=i) for i in range(5)]
    first, again, other = (ADVERSE[name](clean, RATE, np.random.default_rng(s), others) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(first) >= len(clean)
    assert np.std(first[: len(clean)] / np.std(first) - clean / np.std(clean)) > 0.2


SOUNDS = {
    "silence": np.zeros(8000),
    "a click": np.eye(1, 8000, 4000)[0],
    "0.02 s": np.random.default_rng(0).normal(0, 0.1, 320),
    "constant": np.full(8000, 0.7),
    "square": np.sign(np.sin(np.arange(8000) / 10)),
}


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("name", ADVERSE)
def test_degenerate_signals_give_finite_samples(name: str, sound: str) -> None:
    samples = SOUNDS[sound].astype(np.float32)
    out = ADVERSE[name](samples, RATE, np.random.default_rng(0), [speechlike(1.7, seed=i) for i in range(5)])
    assert np.isfinite(out).all()
    assert len(out) >= len(samples)


@pytest.mark.parametrize(("warp", "tempo"), [(1.0, 1.0), (1.15, 1.0), (0.87, 1.2), (1.0, 0.8)])
def test_a_changed_voice_has_other_frequencies_and_another_pace(warp: float, tempo: float) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE).astype(np.float32)
    changed = voice_changed(tone, RATE, warp, tempo)
    assert len(changed) == pytest.approx(2 * RATE / tempo, rel=0.03)
    middle = changed[RATE // 2 : RATE]
    peak = np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) * RATE / len(middle)
    assert peak == pytest.approx(1000 * warp, rel=0.01)
    assert np.std(middle) > 0.4 * np.std(tone)


@pytest.mark.parametrize("split", CONDITIONS)
def test_each_condition_changes_speech_and_repeats_with_its_seed(split: Split) -> None:
    clean, others = speechlike(), [speechlike(seed=7)]
    for condition in CONDITIONS[split].values():
        one, two = (condition(clean, RATE, np.random.default_rng(4), others) for _ in range(2))
        assert np.array_equal(one, two)
        assert one.dtype == np.float32
        assert len(one) >= len(clean)
        assert not np.allclose(one[: len(clean)], clean, atol=0.01)
        assert np.isfinite(one).all()
