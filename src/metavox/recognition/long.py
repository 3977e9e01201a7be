"""Transcribes recordings of any length: their speech, in windows, as it is read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from metavox.recognisers.transcript import Segment, Transcript
from metavox.recognition.speech import LONGEST_S, SpeechWindow, SpeechWindows, spoken_part

BATCH = 8  # windows that are transcribed at once

Transcribe = Callable[[Sequence[np.ndarray], str], list[Transcript]]
"""Windows (time,) and their language, which may be empty -> transcripts."""


class LongTranscription:
    """The transcript of a recording at `rate` Hz that is pushed block by block.

    A recording of up to LONGEST_S is transcribed from its first to its last speech, a longer one in windows of speech. The language that is detected in the first window counts for all.
    """

    def __init__(self, transcribe: Transcribe, rate: int, batch: int = BATCH):
        self._transcribe, self._rate, self._batch = transcribe, rate, batch
        self._windows = SpeechWindows(rate)
        self._start: list[np.ndarray] | None = []  # all samples, as long as they are few
        self._length, self._whole_speech_s = 0, 0.0
        self._waiting: list[SpeechWindow] = []
        self.language = ""

    @property
    def duration_s(self) -> float:
        return self._length / self._rate

    @property
    def speech_s(self) -> float:
        """Seconds that were taken as speech so far."""
        return self._whole_speech_s or self._windows.speech_s

    def push(self, samples: np.ndarray) -> list[Segment]:
        """The segments that the next samples (time,) complete."""
        self._length += len(samples)
        if self._start is not None:
            self._start.append(samples)
            if self._length <= LONGEST_S * self._rate:
                return []
            samples, self._start = np.concatenate(self._start), None
        self._waiting += self._windows.push(samples)
        out: list[Segment] = []
        while len(self._waiting) >= (self._batch if self.language else 1):
            out += self._next()
        return out

    def end(self) -> list[Segment]:
        """The last segments."""
        if self._start is not None:
            window = spoken_part(np.concatenate([*self._start, np.zeros(0, np.float32)]), self._rate)
            if window is None:
                return []
            self._whole_speech_s, self._waiting = window.speech_s, [window]
        else:
            self._waiting += self._windows.end()
        out: list[Segment] = []
        while self._waiting:
            out += self._next()
        return out

    def _next(self) -> list[Segment]:
        """Transcribe the next batch; the first one is of one window, so that its language counts for the others."""
        size = self._batch if self.language else 1
        windows, self._waiting = self._waiting[:size], self._waiting[size:]
        transcripts = self._transcribe([window.samples for window in windows], self.language)
        self.language = self.language or next((t.language for t in transcripts if t.language), "")
        return [
            window.placed(segment)
            for window, transcript in zip(windows, transcripts, strict=True)
            for segment in transcript.segments
        ]

    def transcript(self, segments: Iterable[Segment]) -> Transcript:
        return Transcript(tuple(segments), self.duration_s, self.language, self.speech_s)


def by_channel(transcripts: Sequence[Transcript]) -> Transcript:
    """The transcripts of a recording's channels as one, in the order of time, with the channel as the speaker."""
    segments = [
        replace(segment, speaker=str(channel))
        for channel, transcript in enumerate(transcripts, 1)
        for segment in transcript.segments
        if segment.text
    ]
    ordered = tuple(sorted(segments, key=lambda segment: segment.start_s))
    languages = [transcript.language for transcript in transcripts if transcript.language]
    return Transcript(
        ordered,
        max(transcript.duration_s for transcript in transcripts),
        languages[0] if languages else "",
        sum(transcript.speech_s or 0.0 for transcript in transcripts),
    )
