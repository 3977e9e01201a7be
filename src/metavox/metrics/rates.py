"""Figures with their 95% intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from metavox.text import normalise_text


@dataclass(frozen=True)
class Interval:
    """A mean and the half-width (`ci95`) of its 95% interval."""

    mean: float
    ci95: float

    def as_dict(self) -> dict[str, float]:
        return {"mean": round(self.mean, 6), "ci95": round(self.ci95, 6)}

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.ci95:.1f}"


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean over independent values (episodes), normal approximation."""
    values = np.asarray(values, dtype=float)
    spread = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return Interval(float(values.mean()), float(1.96 * spread))


@dataclass(frozen=True)
class Classification:
    """Accuracy, and precision, recall and F1 averaged over classes with equal weight."""

    accuracy: float
    precision: float
    recall: float
    f1: float


def classification(truth: np.ndarray, guess: np.ndarray, classes: int) -> Classification:
    """truth, guess: (items,) class numbers. A class that is never guessed has precision 0."""
    table = confusion(truth, guess, classes)
    hits = np.diag(table).astype(float)
    precision = hits / np.maximum(table.sum(axis=0), 1)
    recall = hits / np.maximum(table.sum(axis=1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    present = table.sum(axis=1) > 0
    return Classification(
        float(hits.sum() / max(1, table.sum())),
        float(precision[present].mean()),
        float(recall[present].mean()),
        float(f1[present].mean()),
    )


def confusion(truth: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    """Counts (classes, classes), true by guessed."""
    return np.bincount(truth * classes + guess, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class Errors:
    """Edits and reference lengths of each utterance; the rate is their ratio of sums, as WER and CER are."""

    edits: np.ndarray
    lengths: np.ndarray

    @property
    def rate(self) -> float:
        return float(self.edits.sum() / max(1, self.lengths.sum()))

    def interval(self, seed: int = 0, resamples: int = 1000) -> Interval:
        """Bootstrap over utterances (Bisani & Ney 2004)."""
        random = np.random.default_rng(seed)
        picks = random.integers(len(self.edits), size=(resamples, len(self.edits)))
        rates = self.edits[picks].sum(axis=1) / np.maximum(self.lengths[picks].sum(axis=1), 1)
        low, high = np.percentile(rates, (2.5, 97.5))
        return Interval(self.rate, float(high - low) / 2)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            np.concatenate([self.edits, other.edits]), np.concatenate([self.lengths, other.lengths])
        )


def word_errors(references: Sequence[str], guesses: Sequence[str]) -> Errors:
    return _errors(references, guesses, jiwer.process_words, str.split)


def character_errors(references: Sequence[str], guesses: Sequence[str]) -> Errors:
    return _errors(references, guesses, jiwer.process_characters, list)


def _errors(references: Sequence[str], guesses: Sequence[str], process, units) -> Errors:  # type: ignore[no-untyped-def]
    edits, lengths = [], []
    for reference, guess in zip(references, guesses, strict=True):
        reference, guess = normalise_text(reference), normalise_text(guess)
        if not reference:
            edits.append(len(units(guess)))
            lengths.append(0)
            continue
        result = process(reference, guess)
        edits.append(result.substitutions + result.deletions + result.insertions)
        lengths.append(len(units(reference)))
    return Errors(np.array(edits), np.array(lengths))
