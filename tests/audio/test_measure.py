"""Measures of signals with known values; every measure is finite for every input."""

from dataclasses import asdict

import numpy as np
import pytest
import soxr

from metavox.audio.measure import measure

RATE = 16000


def sine(hz: float = 440.0, amplitude: float = 0.5, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    time_s = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def noise(seconds: float = 4.0, rate: int = RATE, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(round(seconds * rate)).astype(np.float32) * 0.1


def bursts(seconds: float = 6.0) -> np.ndarray:
    """Noise that is on for 300 ms and off for 200 ms, like syllables of known power."""
    on = (np.arange(round(seconds * RATE)) / RATE) % 0.5 < 0.3
    return noise(seconds, seed=4) * on


def low_passed_noise(hz: float, rate: int, seconds: float = 4.0) -> np.ndarray:
    """Noise with nothing above `hz`."""
    spectrum = np.fft.rfft(noise(seconds, rate))
    spectrum[np.fft.rfftfreq(round(seconds * rate), 1 / rate) > hz] = 0
    return np.fft.irfft(spectrum).astype(np.float32)


def test_level_and_duration_of_a_sine() -> None:
    measures = measure(sine(amplitude=0.5, seconds=1.5), RATE)
    assert measures.duration_s == 1.5
    assert measures.peak == pytest.approx(0.5, abs=1e-3)
    assert measures.rms_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert measures.dc_offset == pytest.approx(0, abs=1e-4)
    assert (measures.clipping, measures.silence) == (0, 0)


@pytest.mark.parametrize("hz", [60, 440, 3000])
def test_sine_at_full_scale_is_not_clipped(hz: float) -> None:
    assert measure(sine(hz, amplitude=1.0), RATE).clipping == 0


@pytest.mark.parametrize("gain", [1.5, 4.0])
def test_clipping_is_the_share_of_clipped_samples(gain: float) -> None:
    samples = sine(50, amplitude=gain)
    share = np.mean(np.abs(samples) >= 1.0)
    assert measure(np.clip(samples, -1, 1), RATE).clipping == pytest.approx(share, abs=0.01)


def test_clipping_with_codec_ripple_is_detected() -> None:
    samples = np.clip(sine(50, amplitude=4.0), -1, 1)
    rippled = samples + 0.02 * np.abs(samples) * np.abs(noise(2.0)) * np.sign(samples)
    assert measure(rippled, RATE).clipping > 0.7


def test_a_floating_point_recording_far_above_full_scale_is_not_clipped() -> None:
    assert measure(bursts() * 100, RATE).clipping == 0


def test_isolated_peaks_at_full_scale_are_not_clipping() -> None:
    samples = sine(amplitude=0.3)
    samples[::500] = 1.0
    assert measure(samples, RATE).clipping == 0


@pytest.mark.parametrize("offset", [0.2, -0.2])
def test_dc_offset_is_measured_and_changes_no_other_measure(offset: float) -> None:
    plain, shifted = measure(bursts(), RATE), measure(bursts() + np.float32(offset), RATE)
    assert shifted.dc_offset == pytest.approx(0.2, abs=0.002)
    assert shifted.silence == plain.silence
    assert shifted.snr_db == pytest.approx(plain.snr_db, abs=0.1)
    assert shifted.bandwidth_hz == plain.bandwidth_hz


@pytest.mark.parametrize("samples", [np.zeros(RATE), noise() * 1e-4, np.full(RATE, 0.3)])
def test_inaudible_recordings_are_all_silence(samples: np.ndarray) -> None:
    measures = measure(samples.astype(np.float32), RATE)
    assert (measures.silence, measures.snr_db, measures.bandwidth_hz) == (1.0, 0.0, 0.0)


def test_silence_is_the_share_of_quiet_frames_at_any_level() -> None:
    samples = np.concatenate([sine(seconds=1.0), noise(3.0) * 1e-2])
    for gain in (1.0, 0.01):
        assert measure(samples * np.float32(gain), RATE).silence == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("snr_db", [0, 10, 20, 30])
def test_snr_of_bursts_in_noise(snr_db: float) -> None:
    hiss = noise(6.0, seed=5) * np.float32(10 ** (-snr_db / 20))
    assert measure(bursts() + hiss, RATE).snr_db == pytest.approx(snr_db, abs=1.5)


@pytest.mark.parametrize("steady", [noise(), sine()])
def test_a_steady_sound_has_no_positive_snr(steady: np.ndarray) -> None:
    assert measure(steady, RATE).snr_db < 0


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 192000])
@pytest.mark.parametrize("hz", [1000, 3400])
def test_bandwidth_of_low_passed_noise(hz: float, rate: int) -> None:
    assert measure(low_passed_noise(hz, rate), rate).bandwidth_hz == pytest.approx(hz, abs=140)


def test_white_noise_has_the_full_bandwidth() -> None:
    assert measure(noise(), RATE).bandwidth_hz == RATE / 2


def test_upsampling_does_not_widen_the_bandwidth() -> None:
    phone = bursts()[: RATE * 4]
    wide = soxr.resample(phone, 8000, 44100)
    stored = (np.round(wide * 32767) / 32768).astype(np.float32)
    assert 3500 < measure(stored, 44100).bandwidth_hz < 4200


@pytest.mark.parametrize(("weaker_db", "expected_hz"), [(45, 8000), (75, 3400)])
def test_bandwidth_includes_frequencies_within_60_db_of_the_strongest(
    weaker_db: float, expected_hz: float
) -> None:
    samples = low_passed_noise(3400, RATE) + noise(seed=9) * np.float32(10 ** (-weaker_db / 20))
    assert measure(samples, RATE).bandwidth_hz == pytest.approx(expected_hz, abs=140)


def test_mains_hum_does_not_hide_the_speech_band() -> None:
    hum = sine(50, amplitude=0.9, seconds=4.0)
    assert measure(hum + low_passed_noise(3400, RATE) * 0.03, RATE).bandwidth_hz == pytest.approx(
        3400, abs=140
    )
    assert measure(hum, RATE).bandwidth_hz < 300


def test_every_measure_is_finite() -> None:
    """Random lengths, rates, levels and kinds, from a single sample to samples whose squares overflow."""
    random = np.random.default_rng(17)
    for _ in range(300):
        size, rate = int(10 ** random.uniform(0, 4.5)), int(random.choice([8000, 11025, 44100, 192000]))
        level = np.float32(10 ** random.uniform(-42, 37))
        kind = random.integers(5)
        samples = random.uniform(-1, 1, size).astype(np.float32)
        if kind == 1:
            samples = np.ones(size, np.float32)
        elif kind == 2:
            samples = np.eye(1, size, int(random.integers(size)), dtype=np.float32)[0]
        elif kind == 3:
            samples = samples * 1e-3 + np.float32(1)
        elif kind == 4:
            samples[size // 2 :] = 0
        measures = asdict(measure(samples * level, rate))
        assert all(np.isfinite(value) for value in measures.values()), (size, rate, level, kind, measures)
        assert all(0 <= measures[name] <= 1 for name in ("clipping", "silence")), measures
        assert 0 <= measures["bandwidth_hz"] <= rate / 2, measures
        assert -20 <= measures["snr_db"] <= 100, measures


def test_an_empty_recording_is_silence() -> None:
    measures = measure(np.zeros(0, np.float32), RATE)
    assert all(np.isfinite(value) for value in asdict(measures).values())
    assert (measures.duration_s, measures.silence) == (0, 1)


def test_invalid_arguments_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        measure(np.zeros((2, 5), np.float32), RATE)
    with pytest.raises(ValueError, match="0 Hz"):
        measure(np.zeros(5, np.float32), 0)
