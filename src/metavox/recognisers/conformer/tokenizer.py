"""Converts text to character ids and back; the alphabet is whatever the training texts hold."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from metavox.text import normalise_text

BLANK = 0
BASIC_ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Tokenizer:
    """Ids 1.. are the characters of `alphabet` in order; 0 is the CTC blank."""

    alphabet: str

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Tokenizer":
        """The tokenizer for the characters of `texts`, and of English in any case."""
        characters = set(BASIC_ALPHABET).union(*(normalise_text(text) for text in texts))
        return cls("".join(sorted(characters)))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: i + 1 for i, character in enumerate(self.alphabet)}

    def __len__(self) -> int:
        return len(self.alphabet) + 1

    def encode(self, text: str) -> list[int]:
        """The ids of a text; characters outside the alphabet are left out."""
        return [self._ids[c] for c in normalise_text(text) if c in self._ids]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.alphabet[i - 1] for i in ids if i != BLANK)
