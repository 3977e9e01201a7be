import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from metavox.recognisers.whisper.features import log_mels


@pytest.mark.parametrize("bands", [80, 128])
def test_are_those_of_transformers_at_30_s(clips: list[np.ndarray], bands: int) -> None:
    whole = np.resize(clips[0], 480_000).astype(np.float32)
    given = [*clips, whole, np.zeros(800, np.float32), clips[0][:3]]
    theirs = WhisperFeatureExtractor(feature_size=bands)(given, sampling_rate=16000, return_tensors="pt")
    torch.testing.assert_close(log_mels(given, 480_000, bands), theirs.input_features, atol=1e-4, rtol=0)


def test_of_a_clip_are_the_same_in_every_context_and_company(clips: list[np.ndarray]) -> None:
    together = log_mels(clips, 480_000, 80)
    for clip, row in zip(clips, together, strict=True):
        context = -(-(len(clip) + 400) // 320) * 320
        torch.testing.assert_close(
            log_mels([clip], context, 80)[0], row[:, : context // 160], atol=1e-5, rtol=0
        )


def test_of_more_than_the_context_are_those_of_its_part(clips: list[np.ndarray]) -> None:
    assert log_mels([clips[3]], 16_000, 80).shape == (1, 80, 100)
    torch.testing.assert_close(log_mels([clips[3]], 16_000, 80), log_mels([clips[3][:16_000]], 16_000, 80))


def test_of_nothing_are_numbers() -> None:
    assert torch.isfinite(log_mels([np.zeros(0, np.float32)], 32_000, 80)).all()
