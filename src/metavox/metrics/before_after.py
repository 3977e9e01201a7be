"""Error rates and accuracy before and after adaptation, with intervals, and the relative error reduction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from metavox.intervals import Interval, bootstrap_interval, share_gone, wilson
from metavox.metrics.rates import Errors, character_errors, classification, word_errors
from metavox.text import label_key, scoring_text, without_spaces

RATES = ("accuracy", "precision", "recall", "f1")
DRAWS = 1000
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Figures:
    """`rates[name][when]` and `error_reduction[name]`, the relative error reduction, paired over utterances.

    Of all `recordings`, `enrolled` are of enrolled words: accuracy, precision, recall and F1 are measured on these alone.
    `without_spaces` have texts written without spaces between words, so that their characters count as words. `wordless`
    have texts without any letter or digit, so that only accuracy can count them.
    """

    rates: dict[str, dict[str, Interval]]
    error_reduction: dict[str, Interval] = field(default_factory=dict)
    recordings: int = 0
    enrolled: int = 0
    without_spaces: int = 0
    wordless: int = 0

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of the rates worth showing.

        The word error rate is left out where it equals the character error rate because no text has spaces, and both
        are left out where no text has letters.
        """
        lettered = self.recordings - self.wordless
        omitted = {"cer", "wer"} if not lettered else {"wer"} if self.without_spaces == lettered else set()
        return tuple(name for name in self.rates if name not in omitted)

    @property
    def notes(self) -> list[str]:
        """A line about each kind of text to which word errors do not apply."""
        lines = []
        if self.without_spaces:
            texts = (
                f"{self.without_spaces} of {self.recordings} texts are written without spaces between words"
            )
            counted = (
                "their characters count as words" if "wer" in self.shown else "errors are in characters (cer)"
            )
            lines.append(f"{texts}: {counted}")
        if self.wordless:
            lines.append(
                f"{self.wordless} of {self.recordings} texts have no letter or digit: only accuracy counts them"
            )
        return lines

    def as_dict(self) -> dict[str, object]:
        rates = {n: {when: value.as_dict() for when, value in by.items()} for n, by in self.rates.items()}
        error_reduction = {name: value.as_dict() for name, value in self.error_reduction.items()}
        counted = {
            "recordings": self.recordings,
            "enrolled_recordings": self.enrolled,
            "recordings_without_spaces": self.without_spaces,
        }
        return {**rates, **counted, **({"error_reduction": error_reduction} if error_reduction else {})}


def before_and_after(
    texts: Sequence[str],
    transcripts: Mapping[str, Sequence[str]],
    vocabulary: Sequence[str] = (),
    languages: Sequence[str] = (),
) -> Figures:
    """Score the `transcripts` of each time (such as "before" and "after") against the reference `texts`.

    `languages` gives the language of each text, "" where it is unknown. A recording of an enrolled word is correct when
    its transcript is that word and nothing else, compared by `label_key`.
    """
    languages = languages or [""] * len(texts)
    rates: dict[str, dict[str, Interval]] = {}
    error_reduction: dict[str, Interval] = {}
    for name, errors in (("wer", word_errors), ("cer", character_errors)):
        by_time = {when: errors(texts, guesses, languages) for when, guesses in transcripts.items()}
        rates[name] = {when: counted.interval() for when, counted in by_time.items()}
        if {BEFORE, AFTER} <= by_time.keys() and by_time[BEFORE].edits.sum():
            error_reduction[name] = relative_error_reduction(by_time[BEFORE], by_time[AFTER])
    references = [scoring_text(text, language) for text, language in zip(texts, languages, strict=True)]
    counts = {"without_spaces": sum(map(without_spaces, references)), "wordless": references.count("")}
    index = _class_index(vocabulary, set(languages))
    truth = _classes(texts, languages, index)
    enrolled = truth >= 0
    if not enrolled.any():
        return Figures(rates, error_reduction, len(texts), **counts)
    unknown = 1 + max(max(classes.values()) for classes in index.values())
    for when, guesses in transcripts.items():
        guess = _classes(guesses, languages, index)[enrolled]
        for name, value in _resampled(
            truth[enrolled], np.where(guess < 0, unknown, guess), unknown + 1
        ).items():
            rates.setdefault(name, {})[when] = value
    return Figures(rates, error_reduction, len(texts), int(enrolled.sum()), **counts)


def _class_index(vocabulary: Sequence[str], languages: set[str]) -> dict[str, dict[str, int]]:
    """For each language, the class of each enrolled word by its key; two spellings of a word are one class."""
    index: dict[str, dict[str, int]] = {}
    for language in languages:
        keys = dict.fromkeys(label_key(word, language) for word in vocabulary)
        index[language] = {key: i for i, key in enumerate(keys)}
    return index


def _classes(
    texts: Sequence[str], languages: Sequence[str], index: Mapping[str, Mapping[str, int]]
) -> np.ndarray:
    """The class of each text, (texts,); -1 for texts that are not an enrolled word."""
    pairs = zip(texts, languages, strict=True)
    return np.array([index[language].get(label_key(text, language), -1) for text, language in pairs], int)


def relative_error_reduction(before: Errors, after: Errors, seed: int = 0, draws: int = DRAWS) -> Interval:
    """The share of the errors before that adaptation removed; negative where errors increased.

    Paired bootstrap: both sides resample the same utterances, `draws` times. Where all draws agree, the interval is that
    of `share_gone`.
    """
    picks = np.random.default_rng(seed).integers(len(before.edits), size=(draws, len(before.edits)))
    old, new = (errors.edits[picks].sum(axis=1) for errors in (before, after))
    drawn = 1 - new[old > 0] / old[old > 0]
    interval = bootstrap_interval(float(1 - after.edits.sum() / max(1, before.edits.sum())), drawn, 0)
    return interval if interval.ci95 else share_gone(int(before.edits.sum()), int(after.edits.sum()))


def _resampled(
    truth: np.ndarray, guess: np.ndarray, classes: int, resamples: int = 400
) -> dict[str, Interval]:
    """RATES with their intervals from the classes `truth` and `guess`, (recordings,) each.

    Accuracy has Wilson's interval. Precision, recall and F1 are means over words, with a bootstrap over recordings, or
    Wilson's interval where all draws agree.
    """
    measured = classification(truth, guess, classes)
    random = np.random.default_rng(0)
    picks = random.integers(len(truth), size=(resamples, len(truth)))
    drawn = [classification(truth[pick], guess[pick], classes) for pick in picks]
    intervals = {"accuracy": wilson(int((truth == guess).sum()), len(truth))}
    for name in RATES[1:]:
        draws = [getattr(draw, name) for draw in drawn]
        intervals[name] = bootstrap_interval(getattr(measured, name), draws, len(truth))
    return intervals
