"""Silence around speech, taken off with a margin left."""

import numpy as np

FRAME_S = 0.01
MARGIN_S = 0.15  # left on each side: what is quiet before and after a word belongs to it
LEAST_RANGE_DB = 15.0  # between loud and quiet frames; where there is less, nothing is known to be silence
BELOW_PEAK_DB = 35.0
ABOVE_FLOOR_DB = 10.0


def trimmed(samples: np.ndarray, rate: int, margin_s: float = MARGIN_S) -> tuple[np.ndarray, float]:
    """Samples (time,) without the silence before the first and after the last loud frame, `margin_s` kept of it; and
    the second at which they begin.

    Loud is what is well over the noise floor and not far under the peak. A recording that is noise or silence
    throughout stays as it is.
    """
    size = max(1, round(FRAME_S * rate))
    count = len(samples) // size
    if count < 3:
        return samples, 0.0
    power = np.square(samples[: count * size].reshape(count, size), dtype=np.float64).mean(axis=1)
    level = 10 * np.log10(power + 1e-10)
    peak, floor = float(np.percentile(level, 95)), float(np.percentile(level, 10))
    peak = max(
        peak, float(np.sort(level)[-min(count, 10) :].mean())
    )  # a word may be a hundredth of the recording
    if peak - floor < LEAST_RANGE_DB:
        return samples, 0.0
    loud = np.flatnonzero(level > max(peak - BELOW_PEAK_DB, floor + ABOVE_FLOOR_DB))
    margin = round(margin_s * rate)
    start = max(0, int(loud[0]) * size - margin)
    stop = min(len(samples), (int(loud[-1]) + 1) * size + margin)
    return samples[start:stop], start / rate


def word_in(samples: np.ndarray, rate: int) -> tuple[np.ndarray, float]:
    """As `trimmed` with no margin: what is compared of a recording (time,) of one word, at enrolment and at recognition.

    A margin would hold whatever surrounds the word. With 0.15 s of it, enrolled words that were padded with faint noise
    scored so much lower that half of them were rejected.
    """
    return trimmed(samples, rate, margin_s=0.0)
