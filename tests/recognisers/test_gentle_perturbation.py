"""Gentle perturbation: the length changes a little, the loudness hardly, and silence stays silent."""

import numpy as np

from metavox.recognisers.perturb import gently_perturbed


def test_perturbation_keeps_loudness_and_roughly_the_length() -> None:
    samples = np.sin(np.arange(16000) * 0.2).astype(np.float32) * 0.1
    for seed in range(20):
        perturbed = gently_perturbed(samples, 16000, np.random.default_rng(seed))
        assert perturbed.dtype == np.float32
        assert 0.9 < len(perturbed) / len(samples) < 1.12
        assert 0.7 < np.sqrt(np.mean(perturbed**2)) / np.sqrt(np.mean(samples**2)) < 1.3
        np.testing.assert_array_equal(
            perturbed, gently_perturbed(samples, 16000, np.random.default_rng(seed))
        )


def test_silence_stays_silent() -> None:
    for length in (0, 1, 2, 800):
        perturbed = gently_perturbed(np.zeros(length, np.float32), 16000, np.random.default_rng(0))
        assert not perturbed.any()
        assert len(perturbed) <= 1.12 * length + 1
