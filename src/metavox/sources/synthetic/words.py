"""Short everyday words in many languages, from the CLDR data included in babel; nothing is downloaded."""

import copy
import hashlib
import unicodedata
from collections import Counter
from typing import Any

import babel
from babel import localedata

from metavox.errors import UserError
from metavox.sources.base import DIGITS, plain, unit_of

MAX_WORDS = 2
MIN_LETTERS, MAX_LETTERS = 3, 18
ALL_DIGITS = frozenset(digit for words in DIGITS.values() for digit in words)


def words_of(language: str, count: int, seed: int, longest: int = MAX_LETTERS) -> list[str]:
    """`count` words of a language in its main script and at most `longest` characters, drawn by the seed.

    Fewer words if CLDR has fewer. Raises UserError if it has none.
    """
    candidates: dict[str, str] = {}
    for name in sorted(names_of(language)):
        if _usable(name) and len(name) <= longest and unit_of(name, language) != "digit":
            candidates.setdefault(plain(name), name)
    scripts = Counter(script_of(c) for name in candidates.values() for c in name if c.isalpha())
    script = max(scripts, key=lambda s: scripts[s], default="")
    own = [n for n in candidates.values() if all(script_of(c) == script for c in n if c.isalpha())]
    if not own:
        raise UserError(f"language {language}: CLDR has no words in this language; give your own list")
    return sorted(sorted(own, key=lambda name: _order(seed, language, name))[:count])


def names_of(language: str) -> set[str]:
    """All names that CLDR has in this language; none for an unknown language."""
    try:
        locale = str(babel.Locale.parse(language))
    except (babel.UnknownLocaleError, ValueError):
        return set()
    return _names(locale) - _names("root")  # placeholders for missing names


def _names(locale: str) -> set[str]:
    # A copy, because babel caches what it resolves, and the next language would inherit months and weekdays.
    own: dict[str | int | None, Any] = copy.deepcopy(localedata.load(locale))  # type: ignore[arg-type]
    data = localedata.LocaleDataDict(own)
    names = {*data["territories"].values(), *data["languages"].values(), *data["currency_names"].values()}
    names.update(data["months"]["stand-alone"]["wide"].values())
    names.update(data["days"]["stand-alone"]["wide"].values())
    return names | {unit["long"] for unit in data["unit_display_names"].values() if unit.get("long")}


def _usable(name: str) -> bool:
    words = name.split()
    letters = [c for c in name if c.isalpha()]
    return (
        1 <= len(words) <= MAX_WORDS
        and len(letters) >= MIN_LETTERS
        and len(name) <= MAX_LETTERS
        and all(unicodedata.category(c)[0] in "LM" or c in " '’-" for c in name)
        and not any(
            len(word) > 1 and word.isupper() for word in words
        )  # it is unclear whether an abbreviation is spelled out
        and not any(word in ALL_DIGITS for word in plain(name).split())
    )


def script_of(character: str) -> str:
    return unicodedata.name(character, "?").split()[0]


def _order(seed: int, language: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{language}/{name}".encode()).digest()
