"""Whisper's log-mels match transformers, in any context and batch."""

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from metavox.recognisers.whisper.features import log_mels


@pytest.mark.parametrize("bands", [80, 128])
def test_log_mels_match_transformers_at_30_s(clips: list[np.ndarray], bands: int) -> None:
    full_window = np.resize(clips[0], 480_000).astype(np.float32)
    inputs = [*clips, full_window, np.zeros(800, np.float32), clips[0][:3]]
    theirs = WhisperFeatureExtractor(feature_size=bands)(inputs, sampling_rate=16000, return_tensors="pt")
    torch.testing.assert_close(log_mels(inputs, 480_000, bands), theirs.input_features, atol=1e-4, rtol=0)


def test_log_mels_do_not_depend_on_context_and_batch(clips: list[np.ndarray]) -> None:
    batched = log_mels(clips, 480_000, 80)
    for clip, row in zip(clips, batched, strict=True):
        context = -(-(len(clip) + 400) // 320) * 320
        torch.testing.assert_close(
            log_mels([clip], context, 80)[0], row[:, : context // 160], atol=1e-5, rtol=0
        )


def test_clips_are_cut_to_the_context(clips: list[np.ndarray]) -> None:
    assert log_mels([clips[3]], 16_000, 80).shape == (1, 80, 100)
    torch.testing.assert_close(log_mels([clips[3]], 16_000, 80), log_mels([clips[3][:16_000]], 16_000, 80))


def test_log_mels_of_an_empty_clip_are_finite() -> None:
    assert torch.isfinite(log_mels([np.zeros(0, np.float32)], 32_000, 80)).all()
