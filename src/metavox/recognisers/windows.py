"""Splits long recordings at quiet points, so that words stay intact."""

from collections.abc import Sequence

import numpy as np


def quiet_windows(samples: np.ndarray, rate: int, longest_s: float) -> Sequence[tuple[np.ndarray, float]]:
    """Samples (time,) at `rate` Hz -> windows of at most `longest_s`, each with its start in seconds.

    Each cut is at the quietest point of the second half of a window.
    """
    size, start, windows = int(longest_s * rate), 0, []
    hop = rate // 100
    while len(samples) - start > size:
        second_half = np.abs(samples[start + size // 2 : start + size])
        frames = second_half[: len(second_half) // hop * hop].reshape(-1, hop).mean(axis=1)
        level = np.convolve(frames, np.ones(20) / 20, mode="valid")  # "same" would find the edges quiet
        cut = start + size // 2 + (int(level.argmin()) + 10) * hop
        windows.append((samples[start:cut], start / rate))
        start = cut
    windows.append((samples[start:], start / rate))
    return windows
