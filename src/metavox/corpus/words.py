"""Short everyday words of many languages, from the CLDR data that babel carries: no text is downloaded."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator

import babel

from metavox.corpus.sources.base import DIGITS, plain

MAX_WORDS = 2
MIN_LETTERS, MAX_LETTERS = 3, 18
ALL_DIGITS = frozenset(digit for words in DIGITS.values() for digit in words)


def words_of(language: str, count: int, seed: int) -> list[str]:
    """`count` words of one language in its own script, the same ones for the same seed.

    Fewer where CLDR holds fewer.
    """
    candidates: dict[str, str] = {}
    for name in sorted(set(_names(babel.Locale.parse(language)))):
        if _usable(name):
            candidates.setdefault(plain(name), name)
    scripts = Counter(_script(c) for name in candidates.values() for c in name if c.isalpha())
    script = scripts.most_common(1)[0][0]
    own = [n for n in candidates.values() if all(_script(c) == script for c in n if c.isalpha())]
    return sorted(sorted(own, key=lambda name: _order(seed, language, name))[:count])


def _names(locale: babel.Locale) -> Iterator[str]:
    yield from locale.months["stand-alone"]["wide"].values()
    yield from locale.days["stand-alone"]["wide"].values()
    yield from locale.territories.values()
    yield from locale.languages.values()
    yield from locale.currencies.values()
    yield from (names["long"] for names in locale.unit_display_names.values() if names.get("long"))


def _usable(name: str) -> bool:
    words = name.split()
    letters = [c for c in name if c.isalpha()]
    return (
        1 <= len(words) <= MAX_WORDS
        and len(letters) >= MIN_LETTERS
        and len(name) <= MAX_LETTERS
        and all(unicodedata.category(c)[0] in "LM" or c in " '’-" for c in name)
        and not any(len(word) > 1 and word.isupper() for word in words)  # abbreviations are spelled, or not
        and not any(word in ALL_DIGITS for word in plain(name).split())
    )


def _script(character: str) -> str:
    return unicodedata.name(character, "?").split()[0]


def _order(seed: int, language: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{language}/{name}".encode()).digest()
