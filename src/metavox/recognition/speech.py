"""Finds the speech in a stream, and cuts it into windows that a recogniser transcribes at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metavox.audio.vad import FRAME_S, VoiceActivity, speech_probabilities

SPEECH, NO_SPEECH = 0.5, 0.35  # speech begins above the one and goes on above the other
# A recording shorter than this may be one letter, which the network hardly warms up to.
SHORT_S, SHORT_SPEECH = 1.0, 0.2
MIN_PAUSE_FRAMES = 8  # 0.26 s: a shorter pause is part of the speech
MIN_SPEECH_FRAMES = 3  # 0.1 s: less is a click
MARGIN_S = 0.3  # of the pause on each side, which belongs to the window
REST_S = 1.0  # a longer pause ends a window
FULL_S, LONGEST_S = (
    20.0,
    28.0,
)  # a window of the first length ends at its next pause, one of the second anywhere


@dataclass(frozen=True)
class SpeechWindow:
    """Samples (time,) that start at `start_s` of the stream, of which `speech_s` seconds are speech."""

    samples: np.ndarray
    start_s: float
    speech_s: float


def speech_s(samples: np.ndarray, rate: int) -> float:
    """How many seconds of samples (time,) are speech; 0 for a recording without any."""
    probabilities = speech_probabilities(samples, rate)
    threshold = SHORT_SPEECH if len(samples) < SHORT_S * rate else SPEECH
    if (probabilities >= threshold).sum() < (1 if threshold == SHORT_SPEECH else MIN_SPEECH_FRAMES):
        return 0.0
    return min(len(samples) / rate, FRAME_S * float((probabilities >= min(threshold, NO_SPEECH)).sum()))


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
        self._spoken = 0  # frames of speech in it
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
        """What is seen of the window that has not ended yet."""
        if self._first is None:
            return None
        begin = self._begin()
        return SpeechWindow(
            self._between(begin, self._offset + len(self._samples)), begin / self.rate, FRAME_S * self._spoken
        )

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
        if self._first is not None and self._spoken >= MIN_SPEECH_FRAMES:
            yield self._close(self._last)
        self._first = None

    def _frame(self, probability: float) -> Iterator[SpeechWindow]:
        speaking = probability >= (SPEECH if self._run == 0 else NO_SPEECH)
        frame, self._frames = self._frames, self._frames + 1
        self._run = self._run + 1 if speaking else 0
        if speaking:
            if self._first is None:
                self._first, self._spoken, self._probabilities = frame, 0, []
            self._last, self._spoken = frame + 1, self._spoken + 1
        if self._first is None:
            return
        self._probabilities.append(probability)
        pause, length_s = frame + 1 - self._last, FRAME_S * (frame + 1 - self._first)
        if pause >= self._rest and self._spoken < MIN_SPEECH_FRAMES:
            self._first = None
        elif pause >= self._rest or (pause >= MIN_PAUSE_FRAMES and length_s >= FULL_S):
            yield self._close(self._last)
            self._first = None
        elif length_s >= LONGEST_S:
            yield self._cut(frame + 1)

    def _cut(self, end: int) -> SpeechWindow:
        """Close a window without a pause at the frame of its second half that is least like speech."""
        assert self._first is not None
        half = len(self._probabilities) // 2
        at = half + int(np.argmin(self._probabilities[half:]))
        cut = self._first + at
        window = self._close(cut, cut)
        spoken = sum(probability >= NO_SPEECH for probability in self._probabilities[at:])
        self._first, self._probabilities, self._spoken = cut, self._probabilities[at:], spoken
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
        spoken_s = FRAME_S * self._spoken
        self.speech_s += spoken_s
        return SpeechWindow(self._between(begin, end), begin / self.rate, spoken_s)

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
