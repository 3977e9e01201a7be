"""Classification figures, and word and character error rates with their 95% intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from metavox.intervals import Interval as Interval
from metavox.intervals import bootstrap_interval, error_rate
from metavox.intervals import mean_interval as mean_interval
from metavox.text import scoring_text, word_units


@dataclass(frozen=True)
class Classification:
    """Accuracy, and precision, recall and F1 averaged over classes with equal weight."""

    accuracy: float
    precision: float
    recall: float
    f1: float


def classification(truth: np.ndarray, guess: np.ndarray, classes: int) -> Classification:
    """Figures of the class indices `truth` and `guess`, (items,) each. A class that is never guessed has precision 0."""
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
    """Confusion counts (classes, classes): true class by guessed class."""
    return np.bincount(truth * classes + guess, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class Errors:
    """Edits and reference lengths of each utterance, (utterances,) each; the rate is the ratio of their sums."""

    edits: np.ndarray
    lengths: np.ndarray

    @property
    def rate(self) -> float:
        return float(self.edits.sum() / max(1, self.lengths.sum()))

    def interval(self, seed: int = 0, resamples: int = 1000) -> Interval:
        """The rate with a bootstrap over utterances (Bisani & Ney 2004); NaN where the references are empty.

        Where every draw gives the same rate, as with one utterance or without errors, the interval is that of
        `error_rate`: Wilson's on the wrong words.
        """
        edits, length = int(self.edits.sum()), int(self.lengths.sum())
        if not length:
            return error_rate(edits, length)
        random = np.random.default_rng(seed)
        picks = random.integers(len(self.edits), size=(resamples, len(self.edits)))
        rates = self.edits[picks].sum(axis=1) / np.maximum(self.lengths[picks].sum(axis=1), 1)
        interval = bootstrap_interval(self.rate, rates, 0)
        return interval if interval.ci95 else error_rate(edits, length)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            np.concatenate([self.edits, other.edits]), np.concatenate([self.lengths, other.lengths])
        )


def word_errors(references: Sequence[str], guesses: Sequence[str], languages: Sequence[str] = ()) -> Errors:
    """Errors in words, or in characters where a reference is written without spaces between words (`word_units`).

    Texts are compared as `scoring_text`; `languages` gives the language of each utterance, whose letter rules apply.
    """
    return _errors(references, guesses, languages, word_units)


def character_errors(
    references: Sequence[str], guesses: Sequence[str], languages: Sequence[str] = ()
) -> Errors:
    """Errors in characters, spaces between words included; otherwise like `word_errors`."""
    return _errors(references, guesses, languages, _characters)


def _characters(reference: str, guess: str, language: str) -> tuple[list[str], list[str]]:
    return list(scoring_text(reference, language)), list(scoring_text(guess, language))


Units = Callable[[str, str, str], tuple[list[str], list[str]]]


def _errors(
    references: Sequence[str], guesses: Sequence[str], languages: Sequence[str], units: Units
) -> Errors:
    edits, lengths = [], []
    for reference, guess, language in zip(
        references, guesses, languages or [""] * len(references), strict=True
    ):
        expected, actual = units(reference, guess, language)
        edits.append(_distance(expected, actual))
        lengths.append(len(expected))
    return Errors(np.array(edits, int), np.array(lengths, int))


def _distance(reference: Sequence[str], guess: Sequence[str]) -> int:
    """Number of substitutions, deletions and insertions."""
    if not reference or not guess:
        return len(reference) + len(guess)
    distinct = dict.fromkeys([*reference, *guess])
    symbol = {unit: chr(i) for i, unit in enumerate(distinct, ord("\U00010000"))}
    first, second = ("".join(symbol[unit] for unit in units) for units in (reference, guess))
    result = jiwer.process_characters(first, second)
    return result.substitutions + result.deletions + result.insertions
