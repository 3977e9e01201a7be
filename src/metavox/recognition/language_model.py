"""n-gram language models as guides: read from ARPA files, or estimated from a user's own texts."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from metavox.errors import UserError
from metavox.recognisers.guide import Guide, State, Step, characters

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
ORDER = 3
DISCOUNT = 0.75  # of every count (Chen and Goodman 1999, section 2.7)
UNSEEN = 1e-7  # probability of a word that the texts do not have
# Of the model's log-probability, and, relative to it, for each word, which the model makes improbable. Whisper has a language
# model of its own: of the weights tried on development sentences 0.05 was best, and 0.2 was worse than none.
WEIGHT, BONUS = 0.05, 5.0
LN_10 = math.log(10)
Words = tuple[str, ...]


@dataclass(frozen=True)
class NGrams:
    """log10-probabilities of words after others, with back-off weights, as in an ARPA file."""

    order: int
    log_probs: Mapping[Words, float] = field(repr=False)
    backoffs: Mapping[Words, float] = field(repr=False)

    def log_prob(self, word: str, before: Words) -> float:
        """The natural log-probability of a word after others."""
        if (word,) not in self.log_probs:
            word = UNKNOWN
        context = before[len(before) - self.order + 1 :] if self.order > 1 else ()
        penalty = 0.0
        while context and (*context, word) not in self.log_probs:
            penalty += self.backoffs.get(context, 0.0)
            context = context[1:]
        found = self.log_probs.get((*context, word), math.log10(UNSEEN))
        return LN_10 * (found + penalty)


def read_arpa(path: Path) -> NGrams:
    """Read an ARPA file. Raises UserError if it is none."""
    import arpa

    try:
        model = arpa.loadf(str(path))[0]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # the library raises its own, and those of a wrong number
        raise UserError(f"{path}: not an ARPA language model ({error or type(error).__name__})") from error
    log_probs: dict[Words, float] = {}
    backoffs: dict[Words, float] = {}
    for order in range(1, model.order() + 1):
        for entry in model._entries(order):
            words = tuple(" ".join(characters(w).split()) if not w.startswith("<") else w for w in entry[1])
            log_probs[words] = entry[0]
            if len(entry) > 2:
                backoffs[words] = entry[2]
    return NGrams(model.order(), log_probs, backoffs)


def estimate(texts: Iterable[str], order: int = ORDER) -> NGrams:
    """Estimate by interpolated Kneser-Ney smoothing (Chen and Goodman 1999, section 2.7). Raises UserError without texts."""
    sentences = [(BEGIN, *words, END) for text in texts if (words := characters(text).split())]
    if not sentences:
        raise UserError("no text to learn a language model from")
    counts: list[Counter[Words]] = [
        Counter(s[i : i + n] for s in sentences for i in range(len(s) - n + 1)) for n in range(1, order + 1)
    ]
    for n in range(order - 1, 0, -1):  # lower orders count the words that precede, not occurrences
        continued = Counter(gram[1:] for gram in counts[n])
        kept = {gram: count for gram, count in counts[n - 1].items() if gram[0] == BEGIN}
        counts[n - 1] = Counter({**continued, **(kept if n > 1 else {})})
    vocabulary = {gram[0] for gram in counts[0]} - {BEGIN}
    total = sum(count for gram, count in counts[0].items() if gram[0] != BEGIN)
    mass = DISCOUNT * len(vocabulary) / total
    probabilities: dict[Words, float] = {
        (word,): max(counts[0][(word,)] - DISCOUNT, 0) / total + mass / (len(vocabulary) + 1)
        for word in vocabulary
    }
    probabilities[(UNKNOWN,)] = min(mass / (len(vocabulary) + 1), UNSEEN)
    backoffs: dict[Words, float] = {}
    for n in range(2, order + 1):
        followers: dict[Words, list[tuple[Words, int]]] = defaultdict(list)
        for gram, count in counts[n - 1].items():
            followers[gram[:-1]].append((gram, count))
        for context, grams in followers.items():
            total = sum(count for _, count in grams)
            rest = DISCOUNT * len(grams) / total
            backoffs[context] = math.log10(rest)
            for gram, count in grams:
                lower = probabilities.get(gram[1:], UNSEEN)
                probabilities[gram] = max(count - DISCOUNT, 0) / total + rest * lower
    return NGrams(order, {gram: math.log10(p) for gram, p in probabilities.items()}, backoffs)


class LanguageModel(Guide):
    """Models of words as a guide; the probabilities of several are averaged, so that one knows what another does not.

    A state is the last words and the characters of the word that is being written.
    """

    def __init__(self, models: Sequence[NGrams], weight: float = WEIGHT, word_bonus: float | None = None):
        self._models, self.weight = tuple(models), weight
        self.word_bonus = BONUS * weight if word_bonus is None else word_bonus  # in nats
        self._keep = max(model.order for model in models) - 1
        self.start: State = ((BEGIN,), "")
        self._log_prob = lru_cache(maxsize=100_000)(self._averaged)

    def step(self, state: State, character: str) -> Step:
        words, letters = state
        if character != " ":
            return (words, letters + character), 0.0
        score = self.weight * self._log_prob(letters, words) + self.word_bonus
        return (((*words, letters)[-self._keep :] if self._keep else ()), ""), score

    def end(self, state: State) -> float:
        words, letters = state
        total = 0.0
        if letters:
            (words, _), total = self.step(state, " ")
        return total + self.weight * self._log_prob(END, words)

    def _averaged(self, word: str, before: Words) -> float:
        shares = [math.exp(model.log_prob(word, before)) for model in self._models]
        return math.log(sum(shares) / len(shares))
