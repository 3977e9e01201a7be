"""What each output of a CTC head writes, and texts as its ids."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from metavox.errors import UserError

SPECIAL = re.compile(r"<.+>|\[.+\]")


@dataclass(frozen=True)
class Alphabet:
    """Id i writes `written[i]`: a character, rarely several, a space between words; nothing for `blank` and for
    marks as <s>. Letters are in lower case unless the head tells the cases apart (`cased`)."""

    written: tuple[str, ...]
    blank: int
    cased: bool = False

    @classmethod
    def of(cls, ids: Mapping[str, int], blank: str, delimiter: str | None = "|") -> "Alphabet":
        """From a vocabulary's tokens and their ids, which are 0.. without gaps. Raises UserError if they are not."""
        tokens = sorted(ids, key=lambda token: ids[token])
        if [ids[token] for token in tokens] != list(range(len(tokens))):
            raise UserError(
                "its ids have gaps or doubles; expected 0, 1, 2 and so on; get the model's own file"
            )
        if blank not in ids:
            raise UserError(f"it lacks the blank {blank!r}; get the vocab.json that belongs to the model")
        plain = ["" if t == blank or SPECIAL.fullmatch(t) else " " if t == delimiter else t for t in tokens]
        letters = "".join(plain)
        cased = letters.upper() != letters and letters.lower() != letters
        return cls(tuple(t if cased else t.lower() for t in plain), ids[blank], cased)

    def __len__(self) -> int:
        return len(self.written)

    def and_also(self, characters: str) -> "Alphabet":
        """With ids for more characters, behind all others. Raises UserError for one that is there already."""
        there = sorted(
            set(characters) & set(self.written) | {c for c in characters if characters.count(c) > 1}
        )
        if there:
            raise UserError(f"the character {there[0]!r} comes twice; use deltas that bring different ones")
        return replace(self, written=(*self.written, *characters))

    def encode(self, text: str) -> list[int]:
        """Ids of a text, longest tokens first; what cannot be written is left out."""
        out: list[int] = []
        for word in self._folded(text).split():
            found = [i for _, i in self._pieces(word) if i is not None]
            if found and out and self.space is not None:
                out.append(self.space)
            out += found
        return out

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.written[i] for i in ids)

    def missing(self, texts: Sequence[str]) -> str:
        """Letters, marks, digits, apostrophes and spaces of the texts that nothing writes, in order."""
        words = [self._folded(text).split() for text in texts]
        found = {piece for word in set().union(*words) for piece, i in self._pieces(word) if i is None}
        if self.space is None and any(len(text) > 1 for text in words):
            found.add(" ")
        return "".join(sorted(found))

    @cached_property
    def space(self) -> int | None:
        return self._ids.get(" ")

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: i for i, token in reversed(list(enumerate(self.written))) if token}

    @cached_property
    def _longest(self) -> int:
        return max((len(token) for token in self._ids), default=1)

    def _pieces(self, word: str) -> Iterator[tuple[str, int | None]]:
        at = 0
        while at < len(word):
            sizes = range(min(self._longest, len(word) - at), 0, -1)
            size = next((size for size in sizes if word[at : at + size] in self._ids), 1)
            yield word[at : at + size], self._ids.get(word[at : at + size])
            at += size

    def _folded(self, text: str) -> str:
        """The head's case, NFKC; what is neither written by it nor a letter, mark, digit or apostrophe, a space."""
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
        text = text if self.cased else text.lower()
        kept = "".join(
            c if c in self._ids or unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text
        )
        return re.sub(r"(?<!\w)'|'(?!\w)", " ", kept)
