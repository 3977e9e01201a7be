"""What a recogniser says it heard: words in segments, with times in seconds."""

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
    """A stretch of speech; times in seconds. `words` is empty where nobody asked for their times."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    words: tuple[Word, ...] = ()

    def later(self, by_s: float, end_s: float = float("inf")) -> "Segment":
        """The same segment `by_s` seconds later, with no time past `end_s`."""

        def moved(time_s: float) -> float:
            return min(time_s + by_s, end_s)

        words = tuple(replace(w, start_s=moved(w.start_s), end_s=moved(w.end_s)) for w in self.words)
        return replace(self, start_s=moved(self.start_s), end_s=moved(self.end_s), words=words)


@dataclass(frozen=True)
class Transcript:
    """`language` is an ISO 639-1 code where the recogniser knows it."""

    segments: tuple[Segment, ...]
    duration_s: float
    language: str = ""

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.text)
