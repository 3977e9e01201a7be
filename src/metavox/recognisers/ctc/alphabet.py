"""The alphabet of a CTC head: what each output writes, and texts as output ids."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from metavox.errors import UserError

SPECIAL = re.compile(r"<.+>|\[.+\]")


@dataclass(frozen=True)
class Alphabet:
    """Id i writes `written[i]`: a character, rarely several, or a space between words; nothing for `blank`
    and marks such as <s>.

    Letters are in lower case unless the head distinguishes case (`cased`).
    """

    written: tuple[str, ...]
    blank: int
    cased: bool = False

    @classmethod
    def of(cls, ids: Mapping[str, int], blank: str, delimiter: str | None = "|") -> "Alphabet":
        """The alphabet of a vocabulary's tokens and ids. Raises UserError unless the ids are 0, 1, 2 and so
        on.
        """
        tokens = sorted(ids, key=lambda token: ids[token])
        if [ids[token] for token in tokens] != list(range(len(tokens))):
            raise UserError(
                "its ids have gaps or duplicates; expected 0, 1, 2 and so on; get the model's own file"
            )
        if blank not in ids:
            raise UserError(f"it lacks the blank {blank!r}; get the vocab.json that belongs to the model")
        texts = ["" if t == blank or SPECIAL.fullmatch(t) else " " if t == delimiter else t for t in tokens]
        letters = "".join(texts)
        cased = letters.upper() != letters and letters.lower() != letters
        return cls(tuple(t if cased else t.lower() for t in texts), ids[blank], cased)

    def __len__(self) -> int:
        return len(self.written)

    def extended(self, characters: str) -> "Alphabet":
        """The alphabet with ids for more characters, after all others. Raises UserError for a character that
        is already there.
        """
        duplicates = sorted(
            set(characters) & set(self.written) | {c for c in characters if characters.count(c) > 1}
        )
        if duplicates:
            raise UserError(
                f"the character {duplicates[0]!r} occurs twice; use deltas that add different ones"
            )
        return replace(self, written=(*self.written, *characters))

    def encode(self, text: str) -> list[int]:
        """Ids of a text, preferring the longest tokens; what cannot be written is left out."""
        out: list[int] = []
        for word in self._folded(text).split():
            piece_ids = [i for _, i in self._pieces(word) if i is not None]
            if piece_ids and out and self.space is not None:
                out.append(self.space)
            out += piece_ids
        return out

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.written[i] for i in ids)

    def missing(self, texts: Sequence[str]) -> str:
        """Letters, marks, digits, apostrophes and spaces of the texts that no id writes, sorted."""
        words = [self._folded(text).split() for text in texts]
        missing = {piece for word in set().union(*words) for piece, i in self._pieces(word) if i is None}
        if self.space is None and any(len(text) > 1 for text in words):
            missing.add(" ")
        return "".join(sorted(missing))

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
        """The text in the head's case and NFKC; what is neither written by it nor a letter, mark, digit or
        apostrophe becomes a space.
        """
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
        text = text if self.cased else text.lower()
        kept = "".join(
            c if c in self._ids or unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text
        )
        return re.sub(r"(?<!\w)'|'(?!\w)", " ", kept)
