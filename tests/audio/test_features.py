"""Log-mels against three independent implementations, extra columns, long recordings, and invalid samples."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torchaudio

from metavox.audio import framing
from metavox.audio.features import FLOOR, LogMel, extract, make_transform
from metavox.audio.formants import Formants
from metavox.audio.prosody import Prosody
from metavox.config import FeatureConfig, read
from metavox.errors import UserError
from tests.audio.voiced import SOUNDS, VOWELS, vowel

EXTRAS = FeatureConfig(extras=("prosody", "formants"))


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, size).astype(np.float32)


def reference(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Computed in float64 from a matrix of complex exponentials and triangles drawn point by point."""
    size = 2 ** int(np.ceil(np.log2(config.window)))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window) / config.window)
    window = window / np.sqrt((window**2).sum())
    margin = (size - config.window) // 2
    window = np.pad(window, (margin, size - config.window - margin))
    padded = np.pad(samples.astype(np.float64), size // 2)
    frames = 1 + len(samples) // config.hop
    windowed = np.stack([padded[i * config.hop : i * config.hop + size] * window for i in range(frames)])
    bins = np.arange(size // 2 + 1)
    spectrum = windowed @ np.exp(-2j * np.pi * np.outer(np.arange(size), bins) / size)
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
    [FeatureConfig(), FeatureConfig(8000, 32), FeatureConfig(16000, 48, window_s=0.032, hop_s=0.008)],
    ids=["default", "telephone", "window-without-padding"],
)
def test_log_mels_match_the_reference(config: FeatureConfig) -> None:
    samples = noise(5000)
    ours = extract(samples, LogMel(config)).numpy()
    expected = reference(samples, config)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_log_mels_match_torchaudio() -> None:
    config, samples = FeatureConfig(), torch.from_numpy(noise(8000))
    theirs = torchaudio.transforms.MelSpectrogram(
        16000, 512, 400, 160, f_min=60, n_mels=64, pad_mode="constant", normalized="window"
    )(samples)
    torch.testing.assert_close(LogMel(config)(samples), theirs.clamp_min(FLOOR).log().T, atol=1e-3, rtol=1e-3)


def test_a_batch_equals_its_items() -> None:
    transform = LogMel(FeatureConfig())
    batch = torch.from_numpy(np.stack([noise(3000, seed) for seed in range(3)]))
    torch.testing.assert_close(transform(batch), torch.stack([transform(item) for item in batch]))


def test_a_gain_adds_the_same_constant_in_every_band() -> None:
    transform, samples = LogMel(FeatureConfig()), torch.from_numpy(noise(4000))
    difference = transform(10 * samples) - transform(samples)
    torch.testing.assert_close(difference, torch.full_like(difference, float(np.log(100))), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(16000), np.ones(1), np.zeros(0), np.full(16000, 0.5), noise(399), np.full(8000, 1e-30)],
    ids=["silence", "one sample", "no sample", "constant", "less than a window", "underflow"],
)
def test_log_mels_are_finite(samples: np.ndarray) -> None:
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


def test_extras_follow_the_log_mels_in_each_frame() -> None:
    samples = vowel(VOWELS["e"], 123)
    stored = extract(samples, make_transform(EXTRAS))
    tensor = torch.from_numpy(samples)
    assert stored.shape == (len(samples) // 160 + 1, EXTRAS.width)
    expected_columns = torch.cat(
        [LogMel(EXTRAS)(tensor), Prosody(16000, 160)(tensor), Formants(16000, 160)(tensor)], dim=1
    )
    torch.testing.assert_close(stored, expected_columns, atol=1e-3, rtol=1e-4)
    assert (EXTRAS.columns("prosody"), EXTRAS.columns("formants")) == (slice(64, 67), slice(67, 73))
    other = FeatureConfig(extras=("formants",))
    assert (other.width, other.columns("formants")) == (70, slice(64, 70))


def test_an_onset_is_in_the_same_frame_in_all_columns() -> None:
    samples = np.concatenate([np.zeros(16000), vowel(VOWELS["a"], 123)]).astype(np.float32)
    stored = extract(samples, make_transform(EXTRAS)).numpy()
    voicing, energy = stored[:, 65], stored[:, 66]
    onsets = [
        int(np.argmax(x > 0.5 * (x.min() + x.max()))) for x in (stored[:, :64].mean(axis=1), energy, voicing)
    ]
    assert all(abs(frame - 100) <= 3 for frame in onsets), onsets


def test_a_configuration_round_trips_through_json() -> None:
    assert read(FeatureConfig, json.loads(json.dumps(asdict(EXTRAS)))) == EXTRAS


@pytest.mark.parametrize(
    "invalid",
    [
        {"extras": ("pitch",)},
        {"extras": ("prosody", "prosody")},
        {"extras": ("prosody",), "kind": "waveform"},
    ],
)
def test_invalid_extras_are_rejected(invalid: dict) -> None:
    with pytest.raises(ValueError, match="extras"):
        FeatureConfig(**invalid)


@pytest.mark.parametrize("sound", SOUNDS)
def test_degenerate_signals_give_features_that_fit_half_precision(sound: str) -> None:
    stored = extract(SOUNDS[sound].astype(np.float32), make_transform(EXTRAS))
    assert torch.isfinite(stored.half()).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
@pytest.mark.parametrize("config", [FeatureConfig(), EXTRAS, FeatureConfig(kind="waveform")], ids=str)
def test_invalid_samples_are_a_one_line_error(value: float, config: FeatureConfig) -> None:
    samples = noise(1000)
    samples[500] = value
    with pytest.raises(UserError, match="expected numbers about full scale 1"):
        extract(samples, make_transform(config))


@pytest.mark.parametrize("config", [FeatureConfig(), EXTRAS], ids=["log-mels", "extras"])
def test_double_precision_differs_only_by_rounding(config: FeatureConfig) -> None:
    samples = vowel(VOWELS["a"], 123).astype(np.float32)
    single, double = make_transform(config), make_transform(config).double()
    features = extract(samples.astype(np.float64), double)
    assert features.dtype == torch.float64
    torch.testing.assert_close(features.float(), extract(samples, single), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_the_block_size_does_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = torch.from_numpy(np.stack([noise(9000, seed) for seed in range(3)]))
    expected = make_transform(EXTRAS)(samples)
    monkeypatch.setattr(framing, "BLOCK", block)
    torch.testing.assert_close(make_transform(EXTRAS)(samples), expected, atol=1e-3, rtol=1e-4)


PEAK = """
import resource
import numpy as np
import torch
from metavox.audio.features import extract, make_transform
from metavox.config import FeatureConfig
torch.set_num_threads(1)
def peak_mb(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
transform = make_transform(FeatureConfig(mels=16, hop_s=0.02, extras=("prosody",)))
extract(np.zeros(16000, np.float32), transform)
samples = np.random.default_rng(0).normal(0, 0.1, 3600 * 16000 // 3).astype(np.float32)
before = peak_mb()
print(len(extract(samples, transform)), peak_mb() - before)
"""


def test_twenty_minutes_take_little_more_memory_than_their_samples() -> None:
    """The samples take 77 MB and the features 5 MB. All spectra at once would take 300 MB."""
    frames, megabytes = subprocess.run(
        [sys.executable, "-c", PEAK], check=True, capture_output=True, text=True
    ).stdout.split()
    assert int(frames) == 60_001
    assert float(megabytes) < 180
