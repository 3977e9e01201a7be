"""Cross-validated error rates with intervals, estimated from few recordings."""

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
Criterion = Literal["loss", "word_errors"]


@dataclass(frozen=True)
class Estimate:
    """The errors of a recogniser on recordings: the mean loss per token, and edits and reference lengths (recordings,)
    in characters and in words."""

    loss: float
    edits: dict[Unit, np.ndarray]
    lengths: dict[Unit, np.ndarray]

    @classmethod
    def pooled(cls, estimates: Sequence["Estimate"]) -> "Estimate":
        weights = [one.lengths["characters"].sum() for one in estimates]
        units: tuple[Unit, Unit] = ("characters", "words")
        return cls(
            float(np.average([one.loss for one in estimates], weights=weights)),
            {unit: np.concatenate([one.edits[unit] for one in estimates]) for unit in units},
            {unit: np.concatenate([one.lengths[unit] for one in estimates]) for unit in units},
        )

    @property
    def word_error_rate(self) -> float:
        return float(self.edits["words"].sum() / max(1, self.lengths["words"].sum()))

    def rank(self, criterion: Criterion) -> tuple[float, ...]:
        """A sort key; lower is better. Character errors break ties in word errors, and the loss ties in both."""
        if criterion == "loss":
            return (self.loss,)
        return float(self.edits["words"].sum()), float(self.edits["characters"].sum()), self.loss

    def clearly_better(self, other: "Estimate", criterion: Criterion) -> bool:
        """Whether it has fewer word errors on the same recordings, by more than the standard error of the difference.

        With the criterion `loss`, for which there is no standard error, whether the loss is lower.
        """
        if criterion == "loss":
            return self.loss < other.loss
        fewer = other.edits["words"] - self.edits["words"]
        return bool(fewer.sum() > math.sqrt(len(fewer) * fewer.var(ddof=1 if len(fewer) > 1 else 0)))

    def rate(self, unit: Unit) -> dict[str, float | None]:
        """The error rate and its 95% interval, as `Interval.as_dict` gives them.

        The interval follows from the variance of a ratio of sums; if all recordings have the same rate, it is that of
        `error_rate`.
        """
        edits, lengths = self.edits[unit], self.lengths[unit]
        total = max(1, int(lengths.sum()))
        mean = float(edits.sum() / total)
        residuals = edits - mean * lengths
        half = float(Z * np.sqrt(np.square(residuals).sum()) / total)
        interval = Interval(mean, half) if half > SAME else error_rate(int(edits.sum()), int(lengths.sum()))
        return interval.as_dict()


def estimate_errors(
    recogniser: Recogniser, recordings: "Recordings", writer: Recogniser | None = None
) -> Estimate:
    """The loss and the transcription errors of a recogniser on prepared recordings.

    `writer` computes the loss if the recogniser itself lacks characters of the texts.
    """
    losses, weights = [], []
    with torch.inference_mode():
        for start in range(0, len(recordings), BATCH):
            batch = recordings.subset(range(start, min(start + BATCH, len(recordings))))
            losses.append(float((writer or recogniser).loss(batch.audio, batch.texts)))
            weights.append(sum(map(len, batch.texts)))
    transcripts = [transcript.text for transcript in recogniser.transcribe(recordings.audio)]
    counts = count_edits(transcripts, recordings.texts, recordings.language)
    return Estimate(float(np.average(losses, weights=weights)), *counts)


def count_edits(
    transcripts: Sequence[str], references: Sequence[str], language: str = ""
) -> tuple[dict[Unit, np.ndarray], dict[Unit, np.ndarray]]:
    """Edits and reference lengths, (recordings,) each, by unit.

    In a text written without spaces between words, each character counts as a word (see `word_units`).
    """
    edits: dict[Unit, np.ndarray] = {}
    lengths: dict[Unit, np.ndarray] = {}
    pairs = list(zip(references, transcripts, strict=True))
    characters = [
        (list(scoring_text(reference, language)), list(scoring_text(transcript, language)))
        for reference, transcript in pairs
    ]
    words = [word_units(reference, transcript, language) for reference, transcript in pairs]
    units: tuple[tuple[Unit, list[tuple[list[str], list[str]]]], ...] = (
        ("characters", characters),
        ("words", words),
    )
    for unit, unit_pairs in units:
        edits[unit] = np.array([edit_distance(transcript, reference) for reference, transcript in unit_pairs])
        lengths[unit] = np.array([len(reference) for reference, _ in unit_pairs])
    return edits, lengths


def assign_folds(contents: Sequence[bytes], folds: int, labels: Sequence[str] | None = None) -> np.ndarray:
    """The fold (recordings,) in which each recording is held out; -1 if all recordings of its label are identical.

    Identical recordings are in the same fold, so that no held-out recording was trained on. The recordings of a label
    are spread evenly over the folds.
    """
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    names = labels or [""] * len(contents)
    fold_of = np.full(len(contents), -1)
    offset = 0  # each label continues where the previous one ended, so that folds have equal sizes
    for label in sorted(set(names)):
        rows = [i for i, name in enumerate(names) if name == label]
        distinct = list(dict.fromkeys(digests[i] for i in rows))
        if len(distinct) < 2:
            continue
        for i in rows:
            fold_of[i] = (distinct.index(digests[i]) + offset) % max(1, folds)
        offset += len(distinct)
    _, compact = np.unique(fold_of[fold_of >= 0], return_inverse=True)
    fold_of[fold_of >= 0] = compact
    return fold_of


def proportion(correct: np.ndarray) -> dict[str, float]:
    """The share of correct clips and its 95% interval (see `wilson`); `correct` is a boolean array (clips,)."""
    interval = wilson(float(np.sum(correct)), len(correct))
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
