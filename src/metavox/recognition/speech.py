"""Finds the speech in a stream, and cuts it into windows that a recogniser transcribes at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metavox.audio.vad import FRAME_S, VoiceActivity, speech_probabilities
from metavox.recognisers.transcript import Segment

# Probabilities of speech. A window begins above the first and goes on above the second; a recording begins and ends above the
# third, because over a bad telephone line even loud speech has low ones.
SPEECH, NO_SPEECH, FAINT = 0.3, 0.15, 0.1
# There is speech where so many frames are clear, or so many more faint: 0.1 s and 0.4 s. Less is a click, or a note of music.
CLEAR, MIN_CLEAR, MIN_FAINT = 0.5, 3, 12
SHORT_S, SHORT_SPEECH = (
    1.0,
    0.2,
)  # a shorter recording may be one letter, which the network hardly warms up to
MIN_PAUSE_FRAMES = 8  # 0.26 s: a shorter pause is part of the speech
MIN_GAP_FRAMES = 4  # 0.13 s: a shorter gap may be a plosive
LEAST_S = 0.03  # of a word that must be in a stretch
MARGIN_S = 0.5  # of the pause on each side, which belongs to the window
REST_S = 3.0  # a longer pause ends a window; shorter windows give a recogniser less to go by
FULL_S, LONGEST_S = (
    20.0,
    28.0,
)  # a window of the first length ends at its next pause, one of the second anywhere

Stretch = tuple[float, float]
"""Start and end of speech without a pause, in seconds."""


@dataclass(frozen=True)
class SpeechWindow:
    """Samples (time,) that start at `start_s` of the stream. `stretches` of them are speech, from the window's start."""

    samples: np.ndarray
    start_s: float
    stretches: tuple[Stretch, ...]

    @property
    def speech_s(self) -> float:
        return sum(end_s - start_s for start_s, end_s in self.stretches)

    def placed(self, segment: Segment) -> Segment:
        """A segment of the window in the stream, without the pauses at its ends and at the ends of its words."""
        return fitted(segment, self.stretches).later(self.start_s)


def spoken_part(samples: np.ndarray, rate: int) -> SpeechWindow | None:
    """A recording (time,) from its first to its last speech, with a margin; None if there is no speech in it.

    A recording that is shorter than SHORT_S stays whole.
    """
    probabilities = speech_probabilities(samples, rate)
    short = len(samples) < SHORT_S * rate
    if not (probabilities.max(initial=0.0) >= SHORT_SPEECH if short else speaks(probabilities)):
        return None
    spoken = np.flatnonzero(probabilities >= FAINT)
    first, last = int(spoken[0]), int(spoken[-1]) + 1
    begin = 0 if short else max(0, round((first * FRAME_S - MARGIN_S) * rate))
    end = len(samples) if short else min(len(samples), round((last * FRAME_S + MARGIN_S) * rate))
    found = _stretches(probabilities >= NO_SPEECH, first, last)
    return SpeechWindow(samples[begin:end], begin / rate, _shifted(found, begin / rate, (end - begin) / rate))


def speaks(probabilities: np.ndarray) -> bool:
    """Whether there is speech among frames (frames,)."""
    return bool((probabilities >= CLEAR).sum() >= MIN_CLEAR or (probabilities >= FAINT).sum() >= MIN_FAINT)


def _stretches(speaking: np.ndarray, first: int, last: int) -> list[Stretch]:
    """Stretches among the frames from `first` to before `last`; shorter gaps than a pause are filled."""
    out: list[list[int]] = []
    for frame in np.flatnonzero(speaking[first:last]) + first:
        if out and frame - out[-1][1] < MIN_GAP_FRAMES:
            out[-1][1] = int(frame) + 1
        else:
            out.append([int(frame), int(frame) + 1])
    return [(start * FRAME_S, end * FRAME_S) for start, end in out]


def _shifted(stretches: Sequence[Stretch], start_s: float, length_s: float) -> tuple[Stretch, ...]:
    return tuple((max(0.0, a - start_s), min(length_s, b - start_s)) for a, b in stretches)


def fitted(segment: Segment, stretches: Sequence[Stretch]) -> Segment:
    """A segment whose words begin and end in speech: recognisers give a word the pause before or after it too."""
    words = tuple(
        replace(word, start_s=start_s, end_s=end_s)
        for word in segment.words
        for start_s, end_s in [_fitted(word.start_s, word.end_s, stretches)]
    )
    start_s, end_s = _fitted(segment.start_s, segment.end_s, stretches)
    if words:
        start_s, end_s = words[0].start_s, words[-1].end_s
    return replace(segment, start_s=start_s, end_s=end_s, words=words)


def _fitted(start_s: float, end_s: float, stretches: Sequence[Stretch]) -> Stretch:
    """A time without the parts at its ends where nobody speaks; as it is if nobody speaks in all of it."""
    inside = [(a, b) for a, b in stretches if b > start_s + LEAST_S and a < end_s - LEAST_S]
    if not inside:
        return start_s, end_s
    return max(start_s, inside[0][0]), min(end_s, inside[-1][1])


class SpeechWindows:
    """Cuts a stream at `rate` Hz into windows of speech, in pauses where there are any.

    No sample is in two windows, and what lies between windows is no speech. The windows do not depend on how the stream
    is divided into chunks. Memory holds one window and a chunk.
    """

    def __init__(self, rate: int, rest_s: float = REST_S):
        self.rate, self.speech_s = rate, 0.0
        self._activity = VoiceActivity(rate)
        self._rest = round(rest_s / FRAME_S)
        self._samples = np.zeros(0, np.float32)
        self._offset = 0  # of the first sample in memory
        self._frames = 0  # frames seen
        self._probabilities: list[float] = []  # of the frames since the window's first
        self._first: int | None = None  # frame in which the window's speech begins
        self._last = 0  # frame after its latest speech
        self._run = 0  # frames of speech in a row
        self._ended = 0  # sample after the window before

    @property
    def duration_s(self) -> float:
        """Seconds seen so far."""
        return (self._offset + len(self._samples)) / self.rate

    @property
    def in_speech(self) -> bool:
        """Whether somebody is speaking at the end of what was seen."""
        return self._first is not None and self._frames - self._last < MIN_PAUSE_FRAMES

    @property
    def open(self) -> SpeechWindow | None:
        """What is seen of the window that has not ended yet; None while it may be a click."""
        if not self._speaks:
            return None
        return self._window(self._begin(), self._offset + len(self._samples))

    def push(self, samples: np.ndarray) -> Iterator[SpeechWindow]:
        """The windows that the next samples (time,) complete."""
        self._samples = np.concatenate([self._samples, np.asarray(samples, np.float32)])
        for probability in self._activity.push(samples).tolist():
            yield from self._frame(probability)
        self._forget()

    def end(self) -> Iterator[SpeechWindow]:
        """The last window, if the stream ends in one."""
        for probability in self._activity.end().tolist():
            yield from self._frame(probability)
        if self._speaks:
            yield self._close(self._last)
        self._first = None

    def _frame(self, probability: float) -> Iterator[SpeechWindow]:
        speaking = probability >= (SPEECH if self._run == 0 else NO_SPEECH)
        frame, self._frames = self._frames, self._frames + 1
        self._run = self._run + 1 if speaking else 0
        if speaking:
            if self._first is None:
                self._first, self._probabilities = frame, []
            self._last = frame + 1
        if self._first is None:
            return
        self._probabilities.append(probability)
        pause, length_s = frame + 1 - self._last, FRAME_S * (frame + 1 - self._first)
        if pause >= self._rest or (pause >= MIN_PAUSE_FRAMES and length_s >= FULL_S):
            if self._speaks:
                yield self._close(self._last)
            self._first = None
        elif length_s >= LONGEST_S:
            yield self._cut()

    @property
    def _speaks(self) -> bool:
        return self._first is not None and speaks(np.array(self._probabilities))

    def _cut(self) -> SpeechWindow:
        """Close a window without a pause at the frame of its second half that is least like speech."""
        assert self._first is not None
        half = len(self._probabilities) // 2
        at = half + int(np.argmin(self._probabilities[half:]))
        cut = self._first + at
        window = self._close(cut, cut)
        self._first, self._probabilities = cut, self._probabilities[at:]
        self._last = max(self._last, cut)
        return window

    def _close(self, last: int, cut: int | None = None) -> SpeechWindow:
        """The window up to frame `last`, with a margin of the pause after it, or up to the frame `cut`."""
        begin, frame = self._begin(), FRAME_S * self.rate
        margin = round(MARGIN_S * self.rate)
        seen = self._offset + len(self._samples)
        # Half of a pause at most, so that the next window has its margin too.
        free = max(0, round((self._frames - last) * frame)) // 2 if self._frames > last else 0
        end = (
            round(cut * frame)
            if cut is not None
            else min(seen, round(last * frame) + min(margin, max(free, margin // 3)))
        )
        self._ended = end
        window = self._window(begin, end)
        self.speech_s += window.speech_s
        return window

    def _window(self, begin: int, end: int) -> SpeechWindow:
        """The samples from `begin` to before `end`, and the speech in them."""
        assert self._first is not None
        found = _stretches(np.array(self._probabilities) >= NO_SPEECH, 0, len(self._probabilities))
        first_s, start_s = self._first * FRAME_S, begin / self.rate
        length_s = (end - begin) / self.rate
        later = [(a + first_s, b + first_s) for a, b in found if a + first_s < start_s + length_s]
        return SpeechWindow(self._between(begin, end), start_s, _shifted(later, start_s, length_s))

    def _begin(self) -> int:
        assert self._first is not None
        return max(
            self._ended, round(self._first * FRAME_S * self.rate) - round(MARGIN_S * self.rate), self._offset
        )

    def _between(self, begin: int, end: int) -> np.ndarray:
        return self._samples[begin - self._offset : end - self._offset].copy()

    def _forget(self) -> None:
        """Drop samples that no window will hold."""
        seen = self._offset + len(self._samples)
        needed = (
            self._begin() if self._first is not None else seen - round((MARGIN_S + 4 * FRAME_S) * self.rate)
        )
        needed = max(needed, self._offset)
        self._samples, self._offset = self._samples[needed - self._offset :].copy(), needed


def windows_of(samples: np.ndarray, rate: int) -> list[SpeechWindow]:
    """The windows of a whole recording (time,)."""
    finder = SpeechWindows(rate)
    return [*finder.push(samples), *finder.end()]
