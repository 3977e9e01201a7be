"""What is wrong with recordings that are to teach something, in words, before they do."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import torch

from metavox.audio.features import FeatureConfig

SHORT_S, LONG_WORD_S, LONG_S = 0.15, 10.0, 30.0
SPEECH_RANGE = (
    1.5  # nepers of power between loud and quiet frames; steady noise has less, speech twice as much
)


def remarks(
    mels: Sequence[torch.Tensor], labels: Sequence[str], features: FeatureConfig, words: bool
) -> list[str]:
    """A line for each fault that does not stop adaptation but makes it worth less: features (frames, width) of
    each recording, and its word or text."""
    seconds = [len(m) * features.hop_ms / 1000 for m in mels]
    found = []
    if short := sum(s < SHORT_S for s in seconds):
        found.append(f"{short} recordings are shorter than {SHORT_S} s; a word takes longer to say")
    longest = LONG_WORD_S if words else LONG_S
    if long := sum(s > longest for s in seconds):
        found.append(
            f"{long} recordings are longer than {longest:.0f} s; their first {longest:.0f} s are used"
        )
    spoken = defaultdict(list)
    said_of = defaultdict(set)
    for mel, label in zip(mels, labels, strict=True):
        spoken[label].append(has_speech(mel, features))
        said_of[hashlib.sha256(mel.contiguous().numpy().tobytes()).hexdigest()].add(label)
    for label, heard in spoken.items():
        if not any(heard):
            found.append(f"no speech in any of the {len(heard)} recordings of {label!r}; record it again")
    if twice := len(mels) - len(said_of):
        found.append(f"{twice} recordings are copies of others; they teach nothing new")
    against = [sorted(labels) for labels in said_of.values() if len(labels) > 1]
    if against:
        found.append(
            f"{len(against)} recordings have several labels, as {' and '.join(map(repr, against[0][:2]))}; one is wrong"
        )
    if words:
        found += _of_words(spoken)
    return found


def has_speech(mels: torch.Tensor, features: FeatureConfig) -> bool:
    """Whether the power of features (frames, width) moves as speech does."""
    if not len(mels):
        return False
    power = (mels[:, : features.mels].exp() if features.kind == "mel" else mels.square()).mean(dim=1)
    logs = power.clamp_min(1e-8).log()
    return float(logs.quantile(0.95) - logs.quantile(0.05)) > SPEECH_RANGE


def usable_length(mels: torch.Tensor, features: FeatureConfig, words: bool) -> torch.Tensor:
    """The first `LONG_WORD_S` or `LONG_S` seconds."""
    return mels[: round(1000 * (LONG_WORD_S if words else LONG_S) / features.hop_ms)]


def _of_words(spoken: dict[str, list[bool]]) -> list[str]:
    if len(spoken) == 1:
        return [f"only one word, {next(iter(spoken))!r}: it is told from others by the background alone"]
    once = [label for label, heard in spoken.items() if len(heard) == 1]
    if len(once) == len(spoken):
        return ["each word has one recording, so that there is no estimate; two or more of each give one"]
    if once:
        return [f"{len(once)} of {len(spoken)} words have one recording, as {once[0]!r}; they are not tested"]
    return []
