"""What was heard before and after, against what was said: rates with intervals, and what is gone of the errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from metavox.metrics.rates import (
    Errors,
    Interval,
    character_errors,
    classification,
    mean_interval,
    word_errors,
)
from metavox.text import normalise_text

RATES = ("accuracy", "precision", "recall", "f1")
DRAWS = 1000
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Figures:
    """`rates[name][when]`; `gone[name]` is the share of the errors that is gone after, paired over utterances; of
    `recordings`, those that say an `enrolled` word went into accuracy and its kin."""

    rates: dict[str, dict[str, Interval]]
    gone: dict[str, Interval] = field(default_factory=dict)
    recordings: int = 0
    enrolled: int = 0

    def as_dict(self) -> dict[str, object]:
        rates = {n: {when: value.as_dict() for when, value in by.items()} for n, by in self.rates.items()}
        gone = {name: value.as_dict() for name, value in self.gone.items()}
        counted = {"recordings": self.recordings, "enrolled_recordings": self.enrolled}
        return {**rates, **counted, **({"errors_gone": gone} if gone else {})}


def before_and_after(
    texts: Sequence[str], heard: Mapping[str, Sequence[str]], vocabulary: Sequence[str] = ()
) -> Figures:
    """What was heard, by when, against what was said.

    A recording of an enrolled word is right when what was heard is that word and nothing else.
    """
    rates: dict[str, dict[str, Interval]] = {}
    gone: dict[str, Interval] = {}
    for name, errors in (("wer", word_errors), ("cer", character_errors)):
        counted = {when: errors(texts, guesses) for when, guesses in heard.items()}
        rates[name] = {when: one.interval() for when, one in counted.items()}
        if {BEFORE, AFTER} <= counted.keys() and counted[BEFORE].edits.sum():
            gone[name] = errors_gone(counted[BEFORE], counted[AFTER])
    number = {normalise_text(word): i for i, word in enumerate(vocabulary)}
    chosen = [i for i, text in enumerate(texts) if normalise_text(text) in number]
    if not chosen:
        return Figures(rates, gone, len(texts))
    truth = np.array([number[normalise_text(texts[i])] for i in chosen])
    for when, guesses in heard.items():
        guess = np.array([number.get(normalise_text(guesses[i]), len(number)) for i in chosen])
        for name, value in _resampled(truth, guess, len(number) + 1).items():
            rates.setdefault(name, {})[when] = value
    return Figures(rates, gone, len(texts), len(chosen))


def errors_gone(before: Errors, after: Errors, seed: int = 0, draws: int = DRAWS) -> Interval:
    """The share of the errors before that is gone after; less than nothing where there are more.

    The interval is half the span of 95% of `draws` of utterances, the same ones for both (paired bootstrap).
    """
    picks = np.random.default_rng(seed).integers(len(before.edits), size=(draws, len(before.edits)))
    was, left = (one.edits[picks].sum(axis=1) for one in (before, after))
    low, high = np.percentile(1 - left / np.maximum(was, 1), (2.5, 97.5))
    share = 1 - after.edits.sum() / max(1, before.edits.sum())
    return Interval(float(share), float(high - low) / 2)


def _resampled(
    truth: np.ndarray, guess: np.ndarray, classes: int, resamples: int = 400
) -> dict[str, Interval]:
    """Bootstrap over recordings: truth, guess (recordings,) class numbers."""
    whole = classification(truth, guess, classes)
    random = np.random.default_rng(0)
    picks = random.integers(len(truth), size=(resamples, len(truth)))
    drawn = [classification(truth[pick], guess[pick], classes) for pick in picks]
    out = {"accuracy": mean_interval(truth == guess)}
    for name in RATES[1:]:
        low, high = np.percentile([getattr(one, name) for one in drawn], (2.5, 97.5))
        out[name] = Interval(getattr(whole, name), float(high - low) / 2)
    return out
