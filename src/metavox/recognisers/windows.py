"""Long recordings in windows that are cut where it is quiet, so that words stay whole."""

from collections.abc import Sequence

import numpy as np


def quiet_windows(samples: np.ndarray, rate: int, longest_s: float) -> Sequence[tuple[np.ndarray, float]]:
    """Samples (time,) at `rate` Hz -> parts of at most `longest_s` with the second that each begins at.

    Each cut is in the quietest place of the second half of a window.
    """
    size, start, windows = int(longest_s * rate), 0, []
    hop = rate // 100
    while len(samples) - start > size:
        part = np.abs(samples[start + size // 2 : start + size])
        frames = part[: len(part) // hop * hop].reshape(-1, hop).mean(axis=1)
        smooth = np.convolve(frames, np.ones(20) / 20, mode="valid")  # "same" finds the edges quiet
        cut = start + size // 2 + (int(smooth.argmin()) + 10) * hop
        windows.append((samples[start:cut], start / rate))
        start = cut
    windows.append((samples[start:], start / rate))
    return windows
