"""Warnings about recordings before they are used for adaptation or enrolment."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from metavox.recognisers.recogniser import Audio, Recogniser

SHORT_S, LONG_WORD_S = 0.15, 10.0
LEAST_SPEECH_DB = 5.5  # level range; noise of any colour and hum have at most 4.3, clean speech 14 or more
FRAME_S = 0.02
BANDS_HZ = np.geomspace(
    200.0, 4000.0, 13
)  # band edges; every speaker has power in these bands, and hum has little
LEAST_POWER = 1e-8


def recording_warnings(
    audio: Sequence[Audio], labels: Sequence[str], recogniser: Recogniser, words: bool
) -> list[str]:
    """One line for each problem that does not prevent adaptation but makes it less effective.

    `audio` are recordings, as samples or prepared, and `labels` their words or texts; `words` tells which of the two.
    """
    seconds = [recogniser.duration_s(recording) for recording in audio]
    longest = LONG_WORD_S if words else recogniser.spec.longest_s
    warnings = []
    if too_short := sum(s < SHORT_S for s in seconds):
        warnings.append(f"{too_short} recordings are shorter than {SHORT_S} s, too short for a word")
    if too_long := sum(s > longest for s in seconds):
        what = (
            f"only their first {longest:.0f} s are used"
            if words
            else "they are left out; cut them into sentences"
        )
        warnings.append(f"{too_long} recordings are longer than {longest:.0f} s; {what}")
    speech_by_label = defaultdict(list)
    labels_of = defaultdict(set)
    for recording, label in zip(audio, labels, strict=True):
        speech_by_label[label].append(has_speech(recording, recogniser.spec.sample_rate_hz))
        labels_of[hashlib.sha256(content_bytes(recording)).hexdigest()].add(label)
    for label, speech_found in speech_by_label.items():
        if not any(speech_found):
            warnings.append(
                f"no speech in any of the {len(speech_found)} recordings of {label!r}; record it again"
            )
    if copies := len(audio) - len(labels_of):
        warnings.append(f"{copies} recordings are copies of others, which adds nothing")
    conflicting = [sorted(labels) for labels in labels_of.values() if len(labels) > 1]
    if conflicting:
        warnings.append(
            f"{len(conflicting)} recordings have several labels, such as "
            f"{' and '.join(map(repr, conflicting[0][:2]))}; correct the labels"
        )
    if words:
        warnings += _word_warnings(speech_by_label)
    return warnings


def content_bytes(audio: Audio) -> bytes:
    """The bytes of a recording, which are equal for copies of it."""
    if isinstance(audio, torch.Tensor):
        return audio.contiguous().numpy().tobytes()
    return np.ascontiguousarray(audio).tobytes()


def has_speech(audio: Audio, rate: int) -> bool:
    """Whether the level of samples (time,) at `rate` Hz, or of log-mels (frames, mel), varies as much as that of speech."""
    return level_range_db(audio, rate) >= LEAST_SPEECH_DB


def level_range_db(audio: Audio, rate: int) -> float:
    """The range of the level between the 5th and the 95th percentile of frames, in dB; 0 for silence or no samples.

    `audio` is samples (time,) at `rate` Hz, or log-mels (frames, mel). The level of a frame is the mean of the levels of
    its bands in dB, so that random fluctuations in single bands, such as in low-frequency noise, average out.
    """
    if isinstance(audio, torch.Tensor):
        levels = audio.clamp(min=float(np.log(LEAST_POWER))).mean(dim=1).numpy()
    else:
        levels = np.log(np.maximum(_band_powers(np.asarray(audio), rate), LEAST_POWER)).mean(axis=1)
    if not len(levels):
        return 0.0
    low, high = np.quantile(levels, (0.05, 0.95))
    return float(10 / np.log(10) * (high - low))


def _band_powers(samples: np.ndarray, rate: int) -> np.ndarray:
    """Mean power (frames, bands) of samples (time,), in 20 ms frames and the bands below the Nyquist frequency."""
    size = max(1, round(FRAME_S * rate))
    frames = samples[: len(samples) // size * size].reshape(-1, size) * np.hanning(size)
    spectrum = np.square(np.abs(np.fft.rfft(frames, axis=1))) / size
    hz = np.fft.rfftfreq(size, 1 / rate)
    bands = [(hz >= low) & (hz < max(high, low + 1.2 / FRAME_S)) for low, high in pairwise(BANDS_HZ)]
    return np.stack([spectrum[:, band].mean(axis=1) for band in bands if band.any()], axis=1)


def _word_warnings(speech_by_label: dict[str, list[bool]]) -> list[str]:
    if len(speech_by_label) == 1:
        return [
            f"only one word, {next(iter(speech_by_label))!r}; only the cohort of the model separates it from other words"
        ]
    single = [label for label, speech_found in speech_by_label.items() if len(speech_found) == 1]
    if len(single) == len(speech_by_label):
        return [
            "each word has only one recording, so accuracy cannot be estimated; record each word at least twice"
        ]
    if single:
        return [
            f"{len(single)} of {len(speech_by_label)} words have only one recording, such as {single[0]!r}; the estimate leaves them out"
        ]
    return []
