"""What to expect of new recordings, from the few that there are: cross-validation, with honest intervals."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torchaudio.functional import edit_distance

from metavox.intervals import SAME, Interval, Z, error_rate, wilson
from metavox.recognisers.recogniser import Recogniser
from metavox.text import scoring_text, word_units

if TYPE_CHECKING:
    from metavox.adaptation.fine_tune import Recordings

BATCH = 8
Unit = Literal["characters", "words"]
By = Literal["loss", "word_errors"]


@dataclass(frozen=True)
class Estimate:
    """What a recogniser made of recordings: the mean loss of a token; edits and reference lengths (recordings,) in
    characters and in words."""

    loss: float
    edits: dict[Unit, np.ndarray]
    lengths: dict[Unit, np.ndarray]

    @classmethod
    def pooled(cls, parts: Sequence["Estimate"]) -> "Estimate":
        weights = [part.lengths["characters"].sum() for part in parts]
        units: tuple[Unit, Unit] = ("characters", "words")
        return cls(
            float(np.average([part.loss for part in parts], weights=weights)),
            {unit: np.concatenate([part.edits[unit] for part in parts]) for unit in units},
            {unit: np.concatenate([part.lengths[unit] for part in parts]) for unit in units},
        )

    @property
    def word_error_rate(self) -> float:
        return float(self.edits["words"].sum() / max(1, self.lengths["words"].sum()))

    def rank(self, by: By) -> tuple[float, ...]:
        """Lower is better; characters break ties between words, and the loss those between characters."""
        if by == "loss":
            return (self.loss,)
        return float(self.edits["words"].sum()), float(self.edits["characters"].sum()), self.loss

    def clearly_better(self, other: "Estimate", by: By) -> bool:
        """Whether it makes fewer errors in the same recordings, by more than the standard error of the difference; of
        losses, which come without one, whether it is lower."""
        if by == "loss":
            return self.loss < other.loss
        fewer = other.edits["words"] - self.edits["words"]
        return bool(fewer.sum() > math.sqrt(len(fewer) * fewer.var(ddof=1 if len(fewer) > 1 else 0)))

    def rate(self, unit: Unit) -> dict[str, float | None]:
        """The error rate and its 95% interval, as `Interval.as_dict` gives them: by the variance of a ratio of sums, or
        `error_rate`'s where all recordings have the same rate."""
        edits, lengths = self.edits[unit], self.lengths[unit]
        total = max(1, int(lengths.sum()))
        mean = float(edits.sum() / total)
        apart = edits - mean * lengths
        half = float(Z * np.sqrt(np.square(apart).sum()) / total)
        found = Interval(mean, half) if half > SAME else error_rate(int(edits.sum()), int(lengths.sum()))
        return found.as_dict()


def estimate_errors(
    recogniser: Recogniser, recordings: "Recordings", writer: Recogniser | None = None
) -> Estimate:
    """The loss of prepared recordings, and the errors in what is transcribed of them. The loss is that of `writer`
    where the recogniser itself lacks characters of the texts."""
    losses, weights = [], []
    with torch.inference_mode():
        for start in range(0, len(recordings), BATCH):
            part = recordings.some(range(start, min(start + BATCH, len(recordings))))
            losses.append(float((writer or recogniser).loss(part.audio, part.texts)))
            weights.append(sum(map(len, part.texts)))
    heard = [transcript.text for transcript in recogniser.transcribe(recordings.audio)]
    counts = counted(heard, recordings.texts, recordings.language)
    return Estimate(float(np.average(losses, weights=weights)), *counts)


def counted(
    heard: Sequence[str], said: Sequence[str], language: str = ""
) -> tuple[dict[Unit, np.ndarray], dict[Unit, np.ndarray]]:
    """Edits and reference lengths, (recordings,) each, by unit. Words are characters where a text is written without
    spaces between words (`word_units`)."""
    edits: dict[Unit, np.ndarray] = {}
    lengths: dict[Unit, np.ndarray] = {}
    pairs = list(zip(said, heard, strict=True))
    letters = [
        (list(scoring_text(text, language)), list(scoring_text(guess, language))) for text, guess in pairs
    ]
    words = [word_units(text, guess, language) for text, guess in pairs]
    units: tuple[tuple[Unit, list[tuple[list[str], list[str]]]], ...] = (
        ("characters", letters),
        ("words", words),
    )
    for unit, cut in units:
        edits[unit] = np.array([edit_distance(guess, text) for text, guess in cut])
        lengths[unit] = np.array([len(text) for text, _ in cut])
    return edits, lengths


def fold_numbers(contents: Sequence[bytes], folds: int, labels: Sequence[str] | None = None) -> np.ndarray:
    """(recordings,): the fold that each is held out in; -1 where a label's recordings all are the same one.

    Recordings of the same `contents` are in one fold: none is asked about that was learned from. Labels are spread
    evenly.
    """
    same = [hashlib.sha256(content).hexdigest() for content in contents]
    names = labels or [""] * len(contents)
    number = np.full(len(contents), -1)
    shift = 0  # the next label goes on where the last one ended, so that folds are of one size
    for name in sorted(set(names)):
        own = [i for i, label in enumerate(names) if label == name]
        distinct = list(dict.fromkeys(same[i] for i in own))
        if len(distinct) < 2:
            continue
        for i in own:
            number[i] = (distinct.index(same[i]) + shift) % max(1, folds)
        shift += len(distinct)
    _, compact = np.unique(number[number >= 0], return_inverse=True)
    number[number >= 0] = compact
    return number


def proportion(right: np.ndarray) -> dict[str, float]:
    """Whether each was right (clips,) -> the share and its 95% interval (`wilson`)."""
    found = wilson(float(np.sum(right)), len(right))
    return {"mean": found.mean, "low": found.low, "high": found.high}
