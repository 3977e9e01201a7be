"""Text as it is compared and scored."""

import re
import unicodedata


def has_controls(text: str) -> bool:
    """Whether there is a control character in it, or half of a surrogate pair. Joiners, as in emoji, are none."""
    return any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def normalise_text(text: str) -> str:
    """Lower case, NFKC, letters, marks and apostrophes only, single spaces: the form that is scored."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text)
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", kept).split())
