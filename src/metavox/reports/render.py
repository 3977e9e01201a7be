"""Report pages from the Jinja templates beside this file.

Python code prepares data; all markup is in the templates. Autoescaping is on, so a label, file name or transcript
is shown as text whatever it contains. A page is one self-contained file: it runs no script and loads nothing.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

# Escaping HTML does not stop these: control characters, bidirectional overrides and isolates (which reorder the text
# around them), and the lone surrogates of a file name that is not UTF-8 (which cannot be written).
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """`rows` have as many cells as `heads`; the first cell of a row is its heading."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def render(template: str, **data: Any) -> str:
    """Fill `templates/TEMPLATE` with `data`. A name that the template uses and `data` lacks raises UndefinedError."""
    return _ENVIRONMENT.get_template(template).render(data)


def data_uri(data: bytes, media_type: str) -> str:
    """The bytes as a `data:` URI, which keeps a page in one file."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _visible(value: object) -> object:
    """Show unsafe characters as their escapes, such as \\u202e."""
    if not isinstance(value, str) or not UNSAFE.search(value):
        return value
    return type(value)(UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", value))  # markup stays markup


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
    autoescape=True,
    finalize=_visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
