"""What is wrong with recordings that are to teach something, in words, before they do."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from metavox.recognisers.recogniser import Audio, Recogniser

SHORT_S, LONG_WORD_S = 0.15, 10.0
SPEECH_RANGE = (
    1.5  # nepers of power between loud and quiet frames; steady noise has less, speech twice as much
)
FRAME_S = 0.01


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
    """Whether the power of samples (time,) at `rate`, or of log-mels (frames, mel), moves as speech does."""
    if isinstance(audio, torch.Tensor):
        power = audio.exp().mean(dim=1).numpy()
    else:
        size = max(1, round(FRAME_S * rate))
        samples = np.asarray(audio)
        power = np.square(samples[: len(samples) // size * size].reshape(-1, size), dtype=float).mean(axis=1)
    if not len(power):
        return False
    low, high = np.quantile(np.log(np.maximum(power, 1e-8)), (0.05, 0.95))
    return float(high - low) > SPEECH_RANGE


def _of_words(spoken: dict[str, list[bool]]) -> list[str]:
    if len(spoken) == 1:
        return [f"only one word, {next(iter(spoken))!r}: it is told from others by the cohort alone"]
    once = [label for label, heard in spoken.items() if len(heard) == 1]
    if len(once) == len(spoken):
        return ["each word has one recording, so that there is no estimate; two or more of each give one"]
    if once:
        return [f"{len(once)} of {len(spoken)} words have one recording, as {once[0]!r}; they are not tested"]
    return []
