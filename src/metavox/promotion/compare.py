"""Champion and challenger on the same recordings: errors, confidence, and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metavox.intervals import Interval, wilson
from metavox.metrics.rates import word_errors
from metavox.session import Session
from metavox.text import label_key

DRAWS = 2000


@dataclass(frozen=True)
class Scored:
    """What a session made of recordings: its texts, confidence in 0..1, and edits of so many units, (recordings,) each.

    A recording of an `enrolled` word is one unit, right or wrong; the units of others are words.
    """

    texts: tuple[str, ...]
    confidence: np.ndarray
    edits: np.ndarray
    lengths: np.ndarray
    enrolled: np.ndarray

    @property
    def rate(self) -> float:
        return float(self.edits.sum() / max(1, self.lengths.sum()))


@dataclass(frozen=True)
class Difference:
    """The challenger's error rate minus the champion's on the same recordings, and the probability that it is lower."""

    recordings: int
    champion: float
    challenger: float
    change: Interval
    better: float

    def as_dict(self) -> dict[str, object]:
        return {
            "recordings": self.recordings,
            "champion": round(self.champion, 6),
            "challenger": round(self.challenger, 6),
            "change": self.change.as_dict(),
            "better": round(self.better, 4),
        }


def score(
    session: Session, audio: Sequence[np.ndarray], texts: Sequence[str], languages: Sequence[str]
) -> Scored:
    """Transcribe samples (time,) at the session's sample rate and score them against `texts`."""
    transcripts = session.transcribe_all(audio)
    guesses = [transcript.text for transcript in transcripts]
    confidence = [
        float(np.mean([segment.confidence for segment in transcript.segments]))
        if transcript.segments
        else 0.0
        for transcript in transcripts
    ]
    counted = word_errors(texts, guesses, languages)
    edits, lengths = counted.edits.copy(), counted.lengths.copy()
    enrolled = np.zeros(len(texts), bool)
    for i, (text, guess, language) in enumerate(zip(texts, guesses, languages, strict=True)):
        key = label_key(text, language)
        if key in {label_key(word, language) for word in session.words}:
            edits[i], lengths[i], enrolled[i] = label_key(guess, language) != key, 1, True
    return Scored(tuple(guesses), np.array(confidence), edits, lengths, enrolled)


def difference(champion: Scored, challenger: Scored, rows: np.ndarray, seed: int = 0) -> Difference:
    """Compare the recordings `rows` by a paired bootstrap: both sides resample the same recordings.

    Errors of the champion are counted in the challenger's units, so that a newly enrolled word counts once.
    """
    lengths = challenger.lengths[rows]
    before = np.minimum(champion.edits[rows], np.maximum(lengths, champion.lengths[rows]))
    before = np.where(lengths == 1, np.minimum(before, 1), before)
    after = challenger.edits[rows]
    picks = np.random.default_rng(seed).integers(len(rows), size=(DRAWS, max(1, len(rows))))
    units = np.maximum(1, lengths[picks].sum(axis=1))
    changes = (after[picks].sum(axis=1) - before[picks].sum(axis=1)) / units
    total = max(1, int(lengths.sum()))
    low, high = np.percentile(changes, (2.5, 97.5))
    mean = float((after.sum() - before.sum()) / total)
    # Draws without a difference are evidence for neither side.
    better = float((changes < 0).mean() + (changes == 0).mean() / 2)
    change = Interval.between(mean, min(mean, float(low)), max(mean, float(high)))
    return Difference(len(rows), float(before.sum() / total), float(after.sum() / total), change, better)


def contradicted(scored: Scored, sure: float) -> Interval:
    """The share of recordings of which the session is `sure` that they have nothing in common with their label.

    A session with a vocabulary is asked about recordings of its words alone.
    """
    asked = scored.enrolled if scored.enrolled.any() else np.ones(len(scored.edits), bool)
    wrong = asked & (scored.confidence >= sure) & (scored.edits >= scored.lengths)
    return wilson(int(wrong.sum()), int(asked.sum()))
