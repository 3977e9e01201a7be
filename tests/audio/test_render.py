"""Rendering log-mels: unchanged ones reproduce the recording, and a change of level has the requested size."""

import numpy as np
import torch

from metavox.audio.features import LogMel
from metavox.audio.render import render
from metavox.config import FeatureConfig

TRANSFORM = LogMel(FeatureConfig())


def voiced(size: int = 16000) -> np.ndarray:
    time = np.arange(size) / 16000
    overtones = 2 * np.pi * 150 * np.arange(1, 40)[:, None]
    return (0.05 * np.sin(overtones * time)).sum(axis=0).astype(np.float32)


def test_unchanged_log_mels_reproduce_the_recording() -> None:
    samples = voiced()
    # The faint noise that `render` adds first is part of the output.
    out = render(samples, TRANSFORM(torch.from_numpy(samples)), TRANSFORM)
    middle = slice(800, len(out) - 800)
    scale = float(out[middle] @ samples[: len(out)][middle]) / float((samples[: len(out)][middle] ** 2).sum())
    residual = out[middle] - scale * samples[: len(out)][middle]
    assert np.square(residual).mean() < 0.02 * np.square(out[middle]).mean()


def test_lower_log_mels_lower_the_level_equally() -> None:
    samples = 0.2 * voiced()
    mels = TRANSFORM(torch.from_numpy(samples))
    difference = (
        TRANSFORM(torch.from_numpy(render(samples, mels - 2.0, TRANSFORM)))[5:-5]
        - TRANSFORM(torch.from_numpy(render(samples, mels, TRANSFORM)))[5 : len(mels) - 5]
    )
    assert abs(float(difference[:, :40].median()) + 2.0) < 0.15


def test_rendering_is_deterministic_and_does_not_clip() -> None:
    samples = voiced(8000)
    louder = TRANSFORM(torch.from_numpy(samples)) + 6.0
    first, again = render(samples, louder, TRANSFORM), render(samples, louder, TRANSFORM)
    assert np.array_equal(first, again)
    assert first.dtype == np.float32
    assert np.abs(first).max() <= 0.9 + 1e-6
    assert np.isfinite(first).all()
