"""Live transcription: text while somebody speaks, and never a word taken back.

While a window of speech is open it is transcribed again and again. Words on which two passes in a row agree are final
(LocalAgreement-2; Liu et al. 2020, section 4.2, and Macháček et al. 2023, section 3). A pause ends the window, whose
last pass makes the rest of its words final.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from metavox.recognisers.transcript import Transcript, Word
from metavox.recognition.speech import SpeechWindow, SpeechWindows
from metavox.text import normalise_text

Transcribe = Callable[[np.ndarray], Transcript]
"""Samples (time,) of a window -> its transcript, with word times."""


@dataclass(frozen=True)
class StreamConfig:
    """`step_s` is the time between two passes, `look_ahead_s` how long before the latest sample a word must have ended to
    become final before its window ends, and `endpoint_s` the pause that ends a window. A look-ahead of infinity makes
    words final at the ends of windows only: the text is then that of the windows, one by one."""

    step_s: float = 0.5
    look_ahead_s: float = 0.3
    endpoint_s: float = 0.8


@dataclass(frozen=True)
class Update:
    """What changed: words that are `final` now, and those that `follow` for the time being. `ended` says whether the
    window ended with them, and `heard_s` how much of the stream was heard."""

    final: tuple[Word, ...]
    follow: tuple[Word, ...]
    ended: bool
    heard_s: float

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.final)


@dataclass
class _Window:
    """Of the open window: its final words, and what the latest pass said after them."""

    final: list[Word] = field(default_factory=list)
    follow: list[Word] = field(default_factory=list)
    passed_s: float = 0.0  # seconds of the stream at the latest pass
    start_s: float = -1.0


class LiveTranscription:
    """A stream at `rate` Hz, pushed in chunks of any size. Memory does not grow with the stream."""

    def __init__(self, transcribe: Transcribe, rate: int, config: StreamConfig = StreamConfig()):
        self.config, self._transcribe = config, transcribe
        self._windows = SpeechWindows(rate, config.endpoint_s)
        self._rate, self._window = rate, _Window()

    @property
    def heard_s(self) -> float:
        return self._windows.duration_s

    @property
    def speech_s(self) -> float:
        return self._windows.speech_s

    def push(self, samples: np.ndarray, behind: bool = False) -> Iterator[Update]:
        """The next samples (time,). If the caller is `behind` its source, nothing but ended windows is transcribed."""
        for window in self._windows.push(samples):
            yield self._ended(window)
        open_window = self._windows.open
        due = self.heard_s - self._window.passed_s >= self.config.step_s
        if open_window is not None and due and not behind and np.isfinite(self.config.look_ahead_s):
            yield self._passed(open_window)

    def end(self) -> Iterator[Update]:
        """The rest, at the end of the stream, which may be in mid-word."""
        for window in self._windows.end():
            yield self._ended(window)

    def _passed(self, window: SpeechWindow) -> Update:
        if self._window.start_s != window.start_s:  # the one before came to nothing
            self._window = _Window(start_s=window.start_s)
        state = self._window
        state.passed_s = self.heard_s
        words = _rest(state.final, self._words(window), window.start_s)
        agreed = _agreed(state.follow, words)
        limit_s = self.heard_s - self.config.look_ahead_s
        count = next((i for i, word in enumerate(words[:agreed]) if word.end_s > limit_s), agreed)
        state.final += words[:count]
        state.follow = words[count:]
        return Update(tuple(words[:count]), tuple(words[count:]), False, self.heard_s)

    def _ended(self, window: SpeechWindow) -> Update:
        final = self._window.final if self._window.start_s == window.start_s else []
        rest = _rest(final, self._words(window), window.start_s)
        self._window = _Window(passed_s=self.heard_s)
        return Update(tuple(rest), (), True, self.heard_s)

    def _words(self, window: SpeechWindow) -> list[Word]:
        transcript = self._transcribe(window.samples)
        segments = [segment.later(window.start_s) for segment in transcript.segments]
        return [
            word
            for segment in segments
            for word in (
                segment.words or (Word(segment.text, segment.start_s, segment.end_s, segment.confidence),)
            )
            if word.text
        ]


def _agreed(one: Sequence[Word], other: Sequence[Word]) -> int:
    """How many words two passes begin with in common, whatever their case and punctuation."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if not _same(a, b)), min(len(one), len(other)))


def _same(one: Word, other: Word) -> bool:
    return normalise_text(one.text) == normalise_text(other.text)


def _rest(final: Sequence[Word], words: list[Word], start_s: float) -> list[Word]:
    """What a pass says after the final words: it follows the beginning that is nearest to them in words, and of several
    such beginnings the one that ends at their time."""
    if not final:
        return words
    distances = list(range(len(words) + 1))  # edits from the final words so far to each beginning of the pass
    for i, said in enumerate(final, 1):
        diagonal, distances[0] = distances[0], i
        for k, word in enumerate(words, 1):
            edits = min(diagonal + (not _same(said, word)), distances[k] + 1, distances[k - 1] + 1)
            diagonal, distances[k] = distances[k], edits
    ends_s = [start_s, *(word.end_s for word in words)]
    best = min(range(len(words) + 1), key=lambda k: (distances[k], abs(ends_s[k] - final[-1].end_s)))
    return words[best:]
