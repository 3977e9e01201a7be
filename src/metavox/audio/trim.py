"""Trims silence around speech."""

import numpy as np

FRAME_S = 0.01
MARGIN_S = 0.15  # kept on each side: the quiet onset and decay of a word belong to it
MIN_RANGE_DB = 15.0  # between loud and quiet frames; with less, nothing can be called silence
BELOW_PEAK_DB = 35.0
ABOVE_FLOOR_DB = 10.0


def trimmed(samples: np.ndarray, rate: int, margin_s: float = MARGIN_S) -> tuple[np.ndarray, float]:
    """Samples (time,) without the silence before the first and after the last loud frame, except for
    `margin_s`; and the second at which they start.

    A frame is loud if it is well above the noise floor and not far below the peak. A recording that is noise
    or silence throughout stays as it is.
    """
    size = max(1, round(FRAME_S * rate))
    count = len(samples) // size
    if count < 3:
        return samples, 0.0
    power = np.square(samples[: count * size].reshape(count, size), dtype=np.float64).mean(axis=1)
    speech = speech_frames(10 * np.log10(power + 1e-10))
    if speech is None:
        return samples, 0.0
    margin = round(margin_s * rate)
    start = max(0, speech.start * size - margin)
    stop = min(len(samples), speech.stop * size + margin)
    return samples[start:stop], start / rate


def speech_frames(level_db: np.ndarray) -> slice | None:
    """From the first to the last loud frame, by the levels (frames,) in dB; None where nothing can be called silence."""
    if not len(level_db):
        return None
    peak, floor = float(np.percentile(level_db, 95)), float(np.percentile(level_db, 10))
    # The ten loudest frames too: a word may be a hundredth of the recording.
    peak = max(peak, float(np.sort(level_db)[-10:].mean()))
    if peak - floor < MIN_RANGE_DB:
        return None
    loud = np.flatnonzero(level_db > max(peak - BELOW_PEAK_DB, floor + ABOVE_FLOOR_DB))
    return slice(int(loud[0]), int(loud[-1]) + 1)


def word_in(samples: np.ndarray, rate: int, margin_s: float = 0.0) -> tuple[np.ndarray, float]:
    """The part of a one-word recording (time,) that is compared at enrolment and recognition, with the margin of the
    embedder that compares it.

    A margin keeps quiet sounds at the ends of a word, and whatever else surrounds it: an embedder that was trained on
    whole recordings rejected half of the enrolled words with a margin of 0.15 s when they were padded with faint noise.
    """
    return trimmed(samples, rate, margin_s)
