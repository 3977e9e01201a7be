"""Codes of languages: MMS names them by three letters (ISO 639-3), everything else here by two where there are two."""

from collections.abc import Sequence

from babel.core import get_global

from metavox.errors import UserError

NAMED = 8  # languages that an error names


def short_code(code: str) -> str:
    """`eng` -> `en`, `uzb-script_cyrillic` -> `uz`; what has no code of two letters as it is (CLDR's aliases)."""
    language = code.partition("-")[0]
    return str(get_global("language_aliases").get(language, language))


def choose(wanted: str, there: Sequence[str], default: str) -> str:
    """Which of the codes `there` is meant by one of two or three letters; empty means the default.

    Raises UserError, naming some, where none is.
    """
    some = ", ".join(sorted(there)[:NAMED]) + (" and so on" if len(there) > NAMED else "")
    if not wanted and default not in there:
        raise UserError(f"this base knows {len(there)} languages and none was chosen; name one of {some}")
    wanted = wanted or default
    if wanted in there:
        return wanted
    fitting = sorted(
        (code for code in there if short_code(code) == wanted), key=lambda code: (len(code), code)
    )
    if not fitting:
        raise UserError(
            f"language {wanted!r}: this base knows {len(there)}, none of them; expected one of {some}"
        )
    return fitting[0]
