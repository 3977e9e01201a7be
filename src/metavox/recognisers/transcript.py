"""Transcripts: words in segments, with times in seconds."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Word:
    """A word with its times in seconds and the mean probability of its tokens."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Segment:
    """A stretch of speech; times in seconds. `words` is empty if word times were not requested.

    `log_prob` is the natural log-likelihood of the text, to be compared with that of other texts of the same samples.
    `speaker` is a name or the number of a channel, if speakers are told apart.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float
    words: tuple[Word, ...] = ()
    log_prob: float = 0.0
    speaker: str = ""

    def later(self, by_s: float, end_s: float = float("inf")) -> "Segment":
        """The segment shifted by `by_s` seconds, with no time past `end_s`."""

        def shifted(time_s: float) -> float:
            return min(time_s + by_s, end_s)

        words = tuple(replace(w, start_s=shifted(w.start_s), end_s=shifted(w.end_s)) for w in self.words)
        return replace(self, start_s=shifted(self.start_s), end_s=shifted(self.end_s), words=words)


@dataclass(frozen=True)
class Transcript:
    """The segments of one recording. `language` is an ISO 639-1 code if the recogniser knows it.

    `speech_s` is how many seconds were taken as speech; None if that was not measured.
    """

    segments: tuple[Segment, ...]
    duration_s: float
    language: str = ""
    speech_s: float | None = None

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def confidence(self) -> float:
        """The mean confidence of the segments, weighted by their characters; 0 without text."""
        characters = sum(len(segment.text) for segment in self.segments)
        return sum(len(segment.text) * segment.confidence for segment in self.segments) / max(1, characters)
