"""Text as it is compared and scored."""

import re
import unicodedata


def normalise_text(text: str) -> str:
    """Lower case, NFKC, letters, marks and apostrophes only, single spaces: the form that is scored."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text)
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", kept).split())
