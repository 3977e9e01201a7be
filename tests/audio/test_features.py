"""Log-mels against a second implementation that shares no code, and at the edges."""

import numpy as np
import pytest
import torch
import torchaudio

from metavox.audio.features import FLOOR, FeatureConfig, LogMel, extract


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, size).astype(np.float32)


def reference(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """By a matrix of complex exponentials and triangles drawn point by point, in float64."""
    size = 2 ** int(np.ceil(np.log2(config.window)))
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window) / config.window)
    taper = taper / np.sqrt((taper**2).sum())
    around = (size - config.window) // 2
    taper = np.pad(taper, (around, size - config.window - around))
    padded = np.pad(samples.astype(np.float64), size // 2)
    frames = 1 + len(samples) // config.hop
    cut = np.stack([padded[i * config.hop : i * config.hop + size] * taper for i in range(frames)])
    bins = np.arange(size // 2 + 1)
    spectrum = cut @ np.exp(-2j * np.pi * np.outer(np.arange(size), bins) / size)
    power = np.abs(spectrum) ** 2

    def to_mel(hz: float | np.ndarray) -> np.ndarray:
        return 2595 * np.log10(1 + np.asarray(hz) / 700)

    corners = np.linspace(to_mel(60.0), to_mel(config.sample_rate_hz / 2), config.mels + 2)
    corners = 700 * (10 ** (corners / 2595) - 1)
    hz = bins * config.sample_rate_hz / size
    bands = np.zeros((config.mels, len(bins)))
    for band in range(config.mels):
        low, middle, high = corners[band : band + 3]
        bands[band] = np.clip(np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)), 0, None)
    return np.log(np.maximum(power @ bands.T, FLOOR))


@pytest.mark.parametrize(
    "config",
    [FeatureConfig(), FeatureConfig(8000, 32), FeatureConfig(16000, 48, window_ms=32, hop_ms=8)],
    ids=["default", "telephone", "no-padding-of-the-window"],
)
def test_the_same_as_a_second_implementation(config: FeatureConfig) -> None:
    samples = noise(5000)
    ours = extract(samples, LogMel(config)).numpy()
    expected = reference(samples, config)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_the_same_as_torchaudio() -> None:
    config, samples = FeatureConfig(), torch.from_numpy(noise(8000))
    theirs = torchaudio.transforms.MelSpectrogram(
        16000, 512, 400, 160, f_min=60, n_mels=64, pad_mode="constant", normalized="window"
    )(samples)
    torch.testing.assert_close(LogMel(config)(samples), theirs.clamp_min(FLOOR).log().T, atol=1e-3, rtol=1e-3)


def test_a_batch_gives_what_its_items_give_alone() -> None:
    transform = LogMel(FeatureConfig())
    batch = torch.from_numpy(np.stack([noise(3000, seed) for seed in range(3)]))
    torch.testing.assert_close(transform(batch), torch.stack([transform(item) for item in batch]))


def test_ten_times_louder_is_the_same_step_in_every_band() -> None:
    transform, samples = LogMel(FeatureConfig()), torch.from_numpy(noise(4000))
    step = transform(10 * samples) - transform(samples)
    torch.testing.assert_close(step, torch.full_like(step, float(np.log(100))), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(16000), np.ones(1), np.zeros(0), np.full(16000, 0.5), noise(399), np.full(8000, 1e-30)],
    ids=["silence", "one sample", "no sample", "constant", "less than a window", "underflow"],
)
def test_never_anything_but_numbers(samples: np.ndarray) -> None:
    mels = extract(samples.astype(np.float32), LogMel(FeatureConfig()))
    assert len(mels) >= 1
    assert torch.isfinite(mels).all()
    assert mels.min() >= np.log(FLOOR) - 1e-5


def test_silence_is_the_floor() -> None:
    mels = extract(np.zeros(1600, np.float32), LogMel(FeatureConfig()))
    torch.testing.assert_close(mels, torch.full_like(mels, float(np.log(FLOOR))))


def test_a_tone_is_loudest_in_its_band() -> None:
    config = FeatureConfig()
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    low, high = 2595 * np.log10(1 + np.array([60, 8000]) / 700)
    corners = np.linspace(low, high, config.mels + 2)
    expected = int(np.abs(700 * (10 ** (corners[1:-1] / 2595) - 1) - 1000).argmin())
    assert abs(int(extract(tone, LogMel(config)).mean(dim=0).argmax()) - expected) <= 1
