"""The manifest: the table of utterances, with the same columns from corpus to report.

People and `data/` use CSV, the pipeline uses Parquet. `path` is absolute or relative to the manifest; it may point into
a tar file (`shards/asterisk-000.tar/en/hello.wav`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from metavox import old_names
from metavox.dataset.tables import open_table
from metavox.errors import UserError, shown
from metavox.files import written_aside

Tell = Callable[[str], None]

REQUIRED = ("path", "text", "speaker", "language")
COLUMNS: dict[str, Any] = {
    "path": "",
    "text": "",
    "speaker": "",
    "language": "",
    "speaker_group": "",  # shared by speakers known to be one person; empty means the speaker alone
    "source": "",
    "license": "",
    "environment": "",  # room, channel or device, if known
    "split": "",  # train | dev | test
    "unit": "",  # digit | letter | word | sentence
    "text_kind": "spoken",  # spoken | inferred | concept: how far to trust the text
    "synthetic": False,
    "duration_s": float("nan"),
    "sample_rate": 0,
    "sha256": "",
}


def read_manifest(path: Path | str, tell: Tell = lambda line: None) -> pd.DataFrame:
    """Read a CSV or Parquet manifest. Missing optional columns get their defaults.

    `tell` is called with a one-line notice about anything guessed, such as the encoding. Raises UserError when the file
    is missing or unreadable, has a line that does not fit its header, or lacks a required column.
    """
    path = Path(path)
    return with_defaults(_read_parquet(path) if path.suffix == ".parquet" else read_texts(path, tell))


def with_defaults(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with all columns of a manifest, each with its type."""
    rows = rows.assign(**{name: value for name, value in COLUMNS.items() if name not in rows.columns})
    rows["duration_s"] = pd.to_numeric(rows["duration_s"], errors="coerce")
    rows["sample_rate"] = pd.to_numeric(rows["sample_rate"], errors="coerce").fillna(0).astype(int)
    rows["synthetic"] = rows["synthetic"].astype(str).str.lower().isin(("true", "1"))
    return rows


def read_texts(path: Path, tell: Tell = lambda line: None) -> pd.DataFrame:
    """A CSV or TSV manifest with its own columns only and every cell as text. Raises UserError as `read_manifest`."""
    _check_there(path)
    table = open_table(path, COLUMNS)
    table.require(("path", "text"))
    if table.notice:
        tell(table.notice)
    columns: dict[str, list[str]] = {name: [] for name in table.header if name}
    for line in table.lines(lenient=True):
        if line.fault:
            raise UserError(f"{path}, line {line.number}: {line.fault}; correct the line or remove it")
        for name, cells in columns.items():
            cells.append(line.cells.get(name, ""))
    return pd.DataFrame(columns, dtype=str)


def _read_parquet(path: Path) -> pd.DataFrame:
    _check_there(path)
    try:
        rows = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise UserError(f"manifest {path}: cannot be read ({shown(error)}); expected Parquet") from error
    old = [name for name, new in old_names.COLUMNS.items() if name in rows and new not in rows]
    if old:
        old_names.notice(str(path), old, old_names.COLUMNS)
        rows = rows.rename(columns={name: old_names.COLUMNS[name] for name in old})
    missing = [name for name in ("path", "text") if name not in rows.columns]
    if missing:
        present = shown(", ".join(map(str, rows.columns)))
        raise UserError(f"manifest {path}: no column {', '.join(missing)} among {present}")
    return rows


def _check_there(path: Path) -> None:
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise UserError(f"manifest {path}: {what}; expected a CSV with columns {','.join(REQUIRED)}")


def write_manifest(rows: pd.DataFrame, path: Path) -> None:
    """Write a CSV or Parquet manifest. The same rows give the same bytes; an interrupted write leaves the old file."""
    with written_aside(path) as aside:
        if path.suffix == ".parquet":
            rows.to_parquet(aside, index=False)
        else:
            rows.to_csv(aside, index=False, lineterminator="\n")


def resolve(manifest: Path | str, path: str) -> Path:
    """The path of a row's audio. A relative path is relative to the manifest.

    A Windows path with backslashes is read with slashes if only that file exists.
    """
    folder = Path(manifest).parent
    audio = folder / path
    if "\\" in path and not os.path.lexists(audio):
        slashed = folder / path.replace("\\", "/")
        in_tar = any(parent.is_file() for parent in slashed.parents)
        if os.path.lexists(slashed) or in_tar:
            return slashed
    return audio
