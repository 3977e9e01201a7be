"""Finds enrolled words in a stream.

Windows of a few lengths end every 80 ms wherever somebody speaks; each is compared with the enrolled words as a clip of
its own is. The best window of a word within a second is its place.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from metavox.audio.vad import FRAME_S, VoiceActivity
from metavox.recognisers.delta import Vocabulary
from metavox.recognisers.recogniser import WordEmbedder

LENGTHS_S = (0.5, 0.75, 1.1)  # of windows: words of one, two and three or four syllables
HOP_S = 0.08
RESOLUTION_S = 1.0  # two places of a word are at least this far apart
SPEECH, SPEECH_SHARE = 0.5, 0.6  # of a window's frames that must be speech
BATCH_S = 2.0  # of stream that is compared at once, where it need not be at once


@dataclass(frozen=True)
class Spotted:
    """A word in a stream, its times in seconds, and its score."""

    word: str
    start_s: float
    end_s: float
    score: float


class Spotter:
    """A stream at the embedder's rate, pushed in chunks of any size; memory does not grow with it.

    `threshold` is the least score of a word, by default the vocabulary's own.
    """

    def __init__(
        self,
        embedder: WordEmbedder,
        vocabulary: Vocabulary,
        threshold: float | None = None,
        lengths_s: Sequence[float] = LENGTHS_S,
        every_s: float = HOP_S,
    ):
        self._embedder, self._vocabulary = embedder, vocabulary
        self.threshold = vocabulary.threshold if threshold is None else threshold
        self._rate = embedder.spec.sample_rate_hz
        self._lengths = [round(length * self._rate) for length in lengths_s]
        self._hop, self._every = round(HOP_S * self._rate), round(every_s * self._rate)
        self._activity = VoiceActivity(self._rate)
        self._samples = np.zeros(0, np.float32)
        self._speech = np.zeros(0, bool)  # of the frames that begin in memory
        self._offset = 0  # of the first sample in memory, a multiple of the hop
        self._next = self._hop  # sample at which the next windows end
        self._pending: dict[str, Spotted] = {}

    @property
    def heard_s(self) -> float:
        return (self._offset + len(self._samples)) / self._rate

    def push(self, samples: np.ndarray) -> Iterator[Spotted]:
        """The words that are certain after the next samples (time,): nothing better can overlap them."""
        self._samples = np.concatenate([self._samples, np.asarray(samples, np.float32)])
        self._speech = np.concatenate([self._speech, self._activity.push(samples) >= SPEECH])
        if self._offset + len(self._samples) - self._next >= self._every:
            yield from self._compare()

    def end(self) -> Iterator[Spotted]:
        self._speech = np.concatenate([self._speech, self._activity.end() >= SPEECH])
        yield from self._compare()
        yield from self._certain(float("inf"))

    def _compare(self) -> Iterator[Spotted]:
        """Compare the windows that end in what was heard since the last comparison."""
        seen = self._offset + len(self._samples)
        windows = []
        while self._next <= seen:
            windows += [
                (end - length, end)
                for end in [self._next]
                for length in self._lengths
                if self._spoken(end - length, end)
            ]
            self._next += self._hop
        for found in self._scored(windows):
            best = self._pending.get(found.word)
            if best is not None and found.end_s - best.end_s > RESOLUTION_S:
                yield from self._certain(found.end_s)
                self._pending.pop(found.word, None)
                best = None
            if best is None or found.score > best.score:
                self._pending[found.word] = found
        yield from self._certain(seen / self._rate)
        self._forget()

    def _scored(self, windows: Sequence[tuple[int, int]]) -> Iterator[Spotted]:
        if not windows:
            return
        clips = [self._samples[start - self._offset : end - self._offset] for start, end in windows]
        scores = self._embedder.score_words(self._vocabulary, clips)
        best, words = scores.max(dim=1)
        for (start, end), score, word in zip(windows, best.tolist(), words.tolist(), strict=True):
            if score >= self.threshold:
                yield Spotted(self._vocabulary.words[word], start / self._rate, end / self._rate, score)

    def _spoken(self, start: int, end: int) -> bool:
        if start < self._offset:
            return False
        frame = FRAME_S * self._rate
        frames = self._speech[int((start - self._offset) / frame) : int((end - self._offset) / frame)]
        return len(frames) > 0 and float(frames.mean()) >= SPEECH_SHARE

    def _certain(self, heard_s: float) -> Iterator[Spotted]:
        """Words whose time for something better is over; of words at one place, the best."""
        done = [one for one in self._pending.values() if heard_s - one.end_s > RESOLUTION_S]
        for one in sorted(done, key=lambda found: found.end_s):
            rivals = [
                other
                for other in self._pending.values()
                if other.word != one.word and other.start_s < one.end_s and one.start_s < other.end_s
            ]
            if one.word in self._pending and all(one.score >= other.score for other in rivals):
                for other in rivals:
                    self._pending.pop(other.word, None)
                yield self._pending.pop(one.word)
        for one in done:
            if heard_s - one.end_s > 2 * RESOLUTION_S:
                self._pending.pop(one.word, None)

    def _forget(self) -> None:
        """Drop what no window will reach, in whole frames."""
        frame = round(FRAME_S * self._rate)
        keep = self._next - self._hop - max(self._lengths)
        drop = max(0, (keep - self._offset) // frame) * frame
        drop = min(drop, len(self._samples) // frame * frame)
        self._samples, self._speech = self._samples[drop:].copy(), self._speech[drop // frame :]
        self._offset += drop


def best_scores(spotter: Spotter, blocks: Iterable[np.ndarray]) -> list[float]:
    """The scores of all words that a stream of other speech would give with a threshold of minus infinity, best first."""
    spotter.threshold = -float("inf")
    found = [one.score for block in blocks for one in spotter.push(block)]
    return sorted([*found, *(one.score for one in spotter.end())], reverse=True)


def threshold_for(scores: Sequence[float], hours: float, false_accepts_per_hour: float) -> float:
    """The threshold above which other speech of this length has so many false accepts an hour. `scores` are sorted,
    best first."""
    allowed = int(false_accepts_per_hour * hours)
    if not scores:
        return -float("inf")
    return float(np.nextafter(scores[min(allowed, len(scores) - 1)], np.inf))
