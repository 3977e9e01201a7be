"""Language codes: MMS uses three letters (ISO 639-3); everything else here uses two if there are two."""

from collections.abc import Sequence

from babel.core import get_global

from metavox.errors import UserError

MAX_NAMED = 8  # in an error message


def short_code(code: str) -> str:
    """The two-letter code by CLDR's aliases (`eng` -> `en`, `uzb-script_cyrillic` -> `uz`), otherwise the
    code itself.
    """
    language = code.partition("-")[0]
    return str(get_global("language_aliases").get(language, language))


def choose(requested: str, available: Sequence[str], default: str) -> str:
    """The one of the codes `available` that a code of two or three letters means; the default for an empty
    code.

    Raises UserError, naming some, if there is none.
    """
    examples = ", ".join(sorted(available)[:MAX_NAMED]) + (" and so on" if len(available) > MAX_NAMED else "")
    if not requested and default not in available:
        raise UserError(f"this base knows {len(available)} languages; choose one of {examples}")
    requested = requested or default
    if requested in available:
        return requested
    matches = sorted(
        (code for code in available if short_code(code) == requested), key=lambda code: (len(code), code)
    )
    if not matches:
        raise UserError(
            f"language {requested!r}: not one of the {len(available)} that this base knows; expected one of {examples}"
        )
    return matches[0]
