"""What is wrong with recordings that are to teach something, in words, before they do."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from metavox.recognisers.recogniser import Audio, Recogniser

SHORT_S, LONG_WORD_S = 0.15, 10.0
LEAST_SPEECH_DB = 5.5  # level range: noise of any colour and hum have up to 4.3, clean speech has 14 or more
FRAME_S = 0.02
BANDS_HZ = np.geomspace(
    200.0, 4000.0, 13
)  # edges of the bands in which every speaker has power; hum has little there
LEAST_POWER = 1e-8


def remarks(audio: Sequence[Audio], labels: Sequence[str], recogniser: Recogniser, words: bool) -> list[str]:
    """A line for each fault that does not stop adaptation but makes it worth less: recordings, samples or prepared, and
    the word or text of each."""
    seconds = [recogniser.duration_s(one) for one in audio]
    longest = LONG_WORD_S if words else recogniser.spec.longest_s
    found = []
    if short := sum(s < SHORT_S for s in seconds):
        found.append(f"{short} recordings are shorter than {SHORT_S} s; a word takes longer to say")
    if long := sum(s > longest for s in seconds):
        what = (
            f"their first {longest:.0f} s are used" if words else "they are left out; cut them into sentences"
        )
        found.append(f"{long} recordings are longer than {longest:.0f} s; {what}")
    spoken = defaultdict(list)
    said_of = defaultdict(set)
    for one, label in zip(audio, labels, strict=True):
        spoken[label].append(has_speech(one, recogniser.spec.sample_rate_hz))
        said_of[hashlib.sha256(content(one)).hexdigest()].add(label)
    for label, heard in spoken.items():
        if not any(heard):
            found.append(f"no speech in any of the {len(heard)} recordings of {label!r}; record it again")
    if twice := len(audio) - len(said_of):
        found.append(f"{twice} recordings are copies of others; they teach nothing new")
    against = [sorted(labels) for labels in said_of.values() if len(labels) > 1]
    if against:
        found.append(
            f"{len(against)} recordings have several labels, as {' and '.join(map(repr, against[0][:2]))}; one is wrong"
        )
    if words:
        found += _of_words(spoken)
    return found


def content(audio: Audio) -> bytes:
    """The bytes of a recording: the same for copies of it."""
    if isinstance(audio, torch.Tensor):
        return audio.contiguous().numpy().tobytes()
    return np.ascontiguousarray(audio).tobytes()


def has_speech(audio: Audio, rate: int) -> bool:
    """Whether the level of samples (time,) at `rate`, or of log-mels (frames, mel), varies as that of speech does."""
    return level_range_db(audio, rate) >= LEAST_SPEECH_DB


def level_range_db(audio: Audio, rate: int) -> float:
    """How far the level moves: from the 5th to the 95th percentile of frames, in dB; 0 for silence and for nothing.

    The level of a frame is the mean over bands of their levels in dB, so that the chance of one strong band, as noise of
    low frequencies has it, averages out. `audio` is samples (time,) at `rate`, or log-mels (frames, mel).
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
    """Samples (time,) -> mean power (frames, bands) of frames of 20 ms in the bands below half the rate."""
    size = max(1, round(FRAME_S * rate))
    frames = samples[: len(samples) // size * size].reshape(-1, size) * np.hanning(size)
    spectrum = np.square(np.abs(np.fft.rfft(frames, axis=1))) / size
    hz = np.fft.rfftfreq(size, 1 / rate)
    bands = [(hz >= low) & (hz < max(high, low + 1.2 / FRAME_S)) for low, high in pairwise(BANDS_HZ)]
    return np.stack([spectrum[:, band].mean(axis=1) for band in bands if band.any()], axis=1)


def _of_words(spoken: dict[str, list[bool]]) -> list[str]:
    if len(spoken) == 1:
        return [f"only one word, {next(iter(spoken))!r}: it is told from others by the cohort alone"]
    once = [label for label, heard in spoken.items() if len(heard) == 1]
    if len(once) == len(spoken):
        return ["each word has one recording, so that there is no estimate; two or more of each give one"]
    if once:
        return [f"{len(once)} of {len(spoken)} words have one recording, as {once[0]!r}; they are not tested"]
    return []
