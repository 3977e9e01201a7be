"""Tables that commands read beside manifests."""

from pathlib import Path
from typing import TYPE_CHECKING

from metavox.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def is_table(path: Path) -> bool:
    return path.suffix.lower() in SEPARATORS


def read_table(path: Path, columns: tuple[str, ...]) -> "pd.DataFrame":
    """The rows of a CSV or TSV file, with empty cells as empty text. Raises UserError if it is none, or lacks a column."""
    import pandas as pd

    if not is_table(path):
        raise UserError(f"{path}: expected a table, {' or '.join(SEPARATORS)}")
    try:
        rows = pd.read_csv(path, sep=SEPARATORS[path.suffix.lower()], keep_default_na=False, dtype=str)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, UnicodeError) as error:
        raise UserError(f"{path}: not a table in UTF-8 ({' '.join(str(error).split())[:80]})") from error
    if missing := sorted(set(columns) - set(rows.columns)):
        raise UserError(f"{path}: no column {', '.join(missing)}; expected {','.join(columns)}")
    if rows.empty:
        raise UserError(f"{path}: no rows; expected {','.join(columns)} of at least one recording")
    return rows
