"""Guides: what a decoder follows, character by character, besides the recogniser's own probabilities.

A grammar, a list of hot words and a language model are guides. Decoders of every kind walk them along the text
that they write, in the form of `characters`, so that a guide knows nothing of tokens.
"""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

State = Any
"""Whatever a guide needs to know of the text so far; it can be hashed."""
Step = tuple[State, float]
"""The next state, and the natural logarithm of the weight of the step."""


class Guide(ABC):
    """Weights texts by their characters: lower-case letters, marks, numbers and apostrophes, with single spaces.

    A `strict` guide forbids most texts; a decoder then considers exactly what it allows.
    """

    strict: bool = False
    rewards: bool = False  # whether single letters have positive weights, as those of hot words do
    start: State

    @abstractmethod
    def step(self, state: State, character: str) -> Step | None:
        """What follows if `character` is written in `state`; None if it is forbidden."""

    @abstractmethod
    def end(self, state: State) -> float | None:
        """The natural logarithm of the weight of an end in `state`; None if it is forbidden."""


class Together(Guide):
    """Several guides at once: their weights multiply, and what one forbids is forbidden."""

    def __init__(self, guides: Sequence[Guide]):
        self._guides = tuple(guides)
        self.strict = any(guide.strict for guide in guides)
        self.rewards = any(guide.rewards for guide in guides)
        self.start = tuple(guide.start for guide in guides)

    def step(self, state: State, character: str) -> Step | None:
        states, total = [], 0.0
        for guide, own in zip(self._guides, state, strict=True):
            step = guide.step(own, character)
            if step is None:
                return None
            states.append(step[0])
            total += step[1]
        return tuple(states), total

    def end(self, state: State) -> float | None:
        total = 0.0
        for guide, own in zip(self._guides, state, strict=True):
            end = guide.end(own)
            if end is None:
                return None
            total += end
        return total


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a guide is in a text. `space` says that a space was written, which counts once a letter follows."""

    state: Any
    begun: bool = False
    space: bool = False


def characters(text: str) -> str:
    """A text as guides read it. Unlike with `normalise_text`, spaces remain, because the text may be a part."""
    folded = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    return "".join(c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in folded)


def read(guide: Guide, reading: Reading, part: str) -> tuple[Reading, float] | None:
    """Continue a reading with a part of a text in the form of `characters`; None if the guide forbids it."""
    state, begun, space, total = reading.state, reading.begun, reading.space, 0.0
    for character in part:
        if character == " ":
            space = begun
            continue
        for written in (" ", character) if space else (character,):
            step = guide.step(state, written)
            if step is None:
                return None
            state, total = step[0], total + step[1]
        begun, space = True, False
    return Reading(state, begun, space), total
