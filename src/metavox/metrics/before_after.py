"""What was heard before and after, against what was said: rates with intervals, and what is gone of the errors."""

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
    """`rates[name][when]`; `gone[name]` is the share of the errors that is gone after, paired over utterances.

    Of all `recordings`, those that say an `enrolled` word went into accuracy and its kin; `without_spaces` are written
    without spaces between words, so that their characters count as words; `wordless` have a text without any letter or
    number, so that only accuracy can count them.
    """

    rates: dict[str, dict[str, Interval]]
    gone: dict[str, Interval] = field(default_factory=dict)
    recordings: int = 0
    enrolled: int = 0
    without_spaces: int = 0
    wordless: int = 0

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of the rates that say something: where no text has words, the word error rate is the character
        error rate; where no text has letters, there is neither."""
        lettered = self.recordings - self.wordless
        left_out = {"cer", "wer"} if not lettered else {"wer"} if self.without_spaces == lettered else set()
        return tuple(name for name in self.rates if name not in left_out)

    @property
    def notes(self) -> list[str]:
        """A line about each kind of text whose errors are not plain words."""
        lines = []
        if self.without_spaces:
            of = (
                f"{self.without_spaces} of {self.recordings} texts are written without spaces between words: "
            )
            lines.append(
                of
                + (
                    "their characters count as words"
                    if "wer" in self.shown
                    else "errors are in characters (cer)"
                )
            )
        if self.wordless:
            lines.append(
                f"{self.wordless} of {self.recordings} texts hold no letter or number: accuracy alone counts them"
            )
        return lines

    def as_dict(self) -> dict[str, object]:
        rates = {n: {when: value.as_dict() for when, value in by.items()} for n, by in self.rates.items()}
        gone = {name: value.as_dict() for name, value in self.gone.items()}
        counted = {
            "recordings": self.recordings,
            "enrolled_recordings": self.enrolled,
            "recordings_without_spaces": self.without_spaces,
        }
        return {**rates, **counted, **({"errors_gone": gone} if gone else {})}


def before_and_after(
    texts: Sequence[str],
    heard: Mapping[str, Sequence[str]],
    vocabulary: Sequence[str] = (),
    languages: Sequence[str] = (),
) -> Figures:
    """What was heard, by when, against what was said; `languages` gives the language of each text, where it is known.

    A recording of an enrolled word is right when what was heard is that word and nothing else; labels are compared by
    `label_key`.
    """
    languages = languages or [""] * len(texts)
    rates: dict[str, dict[str, Interval]] = {}
    gone: dict[str, Interval] = {}
    for name, errors in (("wer", word_errors), ("cer", character_errors)):
        counted = {when: errors(texts, guesses, languages) for when, guesses in heard.items()}
        rates[name] = {when: one.interval() for when, one in counted.items()}
        if {BEFORE, AFTER} <= counted.keys() and counted[BEFORE].edits.sum():
            gone[name] = errors_gone(counted[BEFORE], counted[AFTER])
    said = [scoring_text(text, language) for text, language in zip(texts, languages, strict=True)]
    counts = {"without_spaces": sum(map(without_spaces, said)), "wordless": said.count("")}
    number = _numbers(vocabulary, set(languages))
    codes = _codes(texts, languages, number)
    chosen = codes >= 0
    if not chosen.any():
        return Figures(rates, gone, len(texts), **counts)
    unknown = 1 + max(max(by.values()) for by in number.values())
    for when, guesses in heard.items():
        guess = _codes(guesses, languages, number)[chosen]
        for name, value in _resampled(
            codes[chosen], np.where(guess < 0, unknown, guess), unknown + 1
        ).items():
            rates.setdefault(name, {})[when] = value
    return Figures(rates, gone, len(texts), int(chosen.sum()), **counts)


def _numbers(vocabulary: Sequence[str], languages: set[str]) -> dict[str, dict[str, int]]:
    """For each language the class number of each enrolled word by its key. A delta may hold one word in two spellings: it
    is one class."""
    number: dict[str, dict[str, int]] = {}
    for language in languages:
        keys = dict.fromkeys(label_key(word, language) for word in vocabulary)
        number[language] = {key: i for i, key in enumerate(keys)}
    return number


def _codes(
    texts: Sequence[str], languages: Sequence[str], number: Mapping[str, Mapping[str, int]]
) -> np.ndarray:
    """The class number of each text, (texts,); -1 for those that are no enrolled word."""
    pairs = zip(texts, languages, strict=True)
    return np.array([number[language].get(label_key(text, language), -1) for text, language in pairs], int)


def errors_gone(before: Errors, after: Errors, seed: int = 0, draws: int = DRAWS) -> Interval:
    """The share of the errors before that is gone after; less than nothing where there are more.

    The interval is half the span of 95% of `draws` of utterances, the same ones for both (paired bootstrap), or that of
    `share_gone` where all draws agree.
    """
    picks = np.random.default_rng(seed).integers(len(before.edits), size=(draws, len(before.edits)))
    was, left = (one.edits[picks].sum(axis=1) for one in (before, after))
    drawn = 1 - left[was > 0] / was[was > 0]
    found = bootstrap_interval(float(1 - after.edits.sum() / max(1, before.edits.sum())), drawn, 0)
    return found if found.ci95 else share_gone(int(before.edits.sum()), int(after.edits.sum()))


def _resampled(
    truth: np.ndarray, guess: np.ndarray, classes: int, resamples: int = 400
) -> dict[str, Interval]:
    """Truth, guess (recordings,) class numbers. Accuracy has Wilson's interval; precision, recall and F1 are averages over
    words, with a bootstrap over recordings, or Wilson's interval where all draws agree."""
    whole = classification(truth, guess, classes)
    random = np.random.default_rng(0)
    picks = random.integers(len(truth), size=(resamples, len(truth)))
    drawn = [classification(truth[pick], guess[pick], classes) for pick in picks]
    out = {"accuracy": wilson(int((truth == guess).sum()), len(truth))}
    for name in RATES[1:]:
        draws = [getattr(one, name) for one in drawn]
        out[name] = bootstrap_interval(getattr(whole, name), draws, len(truth))
    return out
