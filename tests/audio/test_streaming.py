"""Streaming features equal those of the whole recording for chunks of any size."""

import numpy as np
import pytest
import torch

from metavox.audio.features import make_transform
from metavox.audio.streaming import StreamingFeatures
from metavox.config import FeatureConfig
from metavox.errors import UserError
from tests.audio.voiced import VOWELS, spoken, vowel

CONFIGS = [
    FeatureConfig(mels=16),
    FeatureConfig(mels=16, extras=("prosody",)),
    FeatureConfig(mels=16, extras=("formants",)),
    FeatureConfig(mels=16, extras=("formants", "prosody")),
    FeatureConfig(8000, 16, window_s=0.032, hop_s=0.008, extras=("prosody", "formants")),
]


def in_chunks(samples: torch.Tensor, config: FeatureConfig, cuts: list[int]) -> torch.Tensor:
    stream = StreamingFeatures(make_transform(config))
    return torch.cat([*(stream.push(part) for part in torch.tensor_split(samples, cuts)), stream.end()])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("length", [0, 1, 150, 399, 400, 1601, 16000])
def test_chunks_give_the_features_of_the_whole_recording(length: int, config: FeatureConfig) -> None:
    signal = np.random.default_rng(length).normal(0, 0.1, length).astype(np.float32)
    if length > 10_000:  # with pitch, formants and a little noise
        signal = 0.01 * signal + np.tile(vowel(VOWELS["a"], 123), 2)[:length]
    samples = torch.from_numpy(signal)
    expected = make_transform(config)(samples)
    random = np.random.default_rng(2)
    for count in (0, 1, 7, 40):
        cuts = np.sort(random.integers(0, length + 1, count)).tolist()
        torch.testing.assert_close(in_chunks(samples, config, cuts), expected, atol=1e-3, rtol=1e-3)


def test_speech_in_chunks_gives_the_features_of_the_whole_recording() -> None:
    config, samples = CONFIGS[3], torch.from_numpy(spoken()[0])
    expected = make_transform(config)(samples)
    cuts = list(range(0, len(samples), 480))
    torch.testing.assert_close(in_chunks(samples, config, cuts), expected, atol=1e-3, rtol=1e-3)


def test_frames_appear_as_soon_as_their_window_is_full() -> None:
    transform = make_transform(CONFIGS[3])
    stream, samples = StreamingFeatures(transform), torch.zeros(16000)
    counts = [len(stream.push(part)) for part in samples.split(160)]
    delay_frames = transform.span / 2 / 160
    assert all(abs(sum(counts[: i + 1]) - max(0, i + 2 - delay_frames)) <= 1 for i in range(len(counts)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_invalid_samples_are_rejected_and_the_stream_continues(value: float) -> None:
    stream, samples = StreamingFeatures(make_transform(CONFIGS[3])), 0.1 * torch.randn(4000)
    first = stream.push(samples[:2000])
    with pytest.raises(UserError, match="about full scale 1"):
        stream.push(torch.full((10,), value))
    features = torch.cat([first, stream.push(samples[2000:]), stream.end()])
    torch.testing.assert_close(features, make_transform(CONFIGS[3])(samples), atol=1e-3, rtol=1e-3)
