"""Characters in, characters out: the alphabet is whatever the training texts hold."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

BLANK = 0
ALWAYS = " 'abcdefghijklmnopqrstuvwxyz"


def normalise_text(text: str) -> str:
    """Lower case, NFKC, letters, marks and apostrophes only, single spaces: the form that is scored."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text)
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", kept).split())


@dataclass(frozen=True)
class Tokenizer:
    """Ids 1.. are the characters of `alphabet` in order; 0 is the CTC blank."""

    alphabet: str

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Tokenizer":
        found = set(ALWAYS).union(*(normalise_text(text) for text in texts))
        return cls("".join(sorted(found)))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: i + 1 for i, character in enumerate(self.alphabet)}

    def __len__(self) -> int:
        return len(self.alphabet) + 1

    def encode(self, text: str) -> list[int]:
        """Characters outside the alphabet are left out."""
        return [self._ids[c] for c in normalise_text(text) if c in self._ids]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.alphabet[i - 1] for i in ids if i != BLANK)
