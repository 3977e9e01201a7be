"""The manifest: one row an utterance, the same columns from corpus to report.

CSV is for people and for `data/`, Parquet for the pipeline. `path` is absolute or relative to
the manifest; it may run through a tar file (`shards/asterisk-000.tar/en/hello.wav`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from metavox import old_names
from metavox.dataset.tables import open_table
from metavox.errors import UserError, shown

Tell = Callable[[str], None]

REQUIRED = ("path", "text", "speaker", "language")
COLUMNS: dict[str, Any] = {
    "path": "",
    "text": "",
    "speaker": "",
    "language": "",
    "speaker_group": "",  # speakers known to be one person share it; empty means the speaker itself
    "source": "",
    "license": "",
    "environment": "",  # room, channel or device, where it is known
    "split": "",  # train | dev | test
    "unit": "",  # digit | letter | word | sentence
    "text_kind": "spoken",  # spoken | inferred | concept: how far the text can be trusted
    "synthetic": False,
    "duration_s": float("nan"),
    "sample_rate": 0,
    "sha256": "",
}


def read_manifest(path: Path | str, tell: Tell = lambda line: None) -> pd.DataFrame:
    """Read a CSV or Parquet manifest; missing optional columns get their defaults.

    `tell` is called with a line on what was guessed, such as the encoding. Raises UserError when the file is
    missing, unreadable, has a line that does not fit its header, or lacks a required column.
    """
    path = Path(path)
    return with_defaults(_read_parquet(path) if path.suffix == ".parquet" else read_texts(path, tell))


def with_defaults(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with every column of a manifest, each in its type."""
    rows = rows.assign(**{name: value for name, value in COLUMNS.items() if name not in rows.columns})
    rows["duration_s"] = pd.to_numeric(rows["duration_s"], errors="coerce")
    rows["sample_rate"] = pd.to_numeric(rows["sample_rate"], errors="coerce").fillna(0).astype(int)
    rows["synthetic"] = rows["synthetic"].astype(str).str.lower().isin(("true", "1"))
    return rows


def read_texts(path: Path, tell: Tell = lambda line: None) -> pd.DataFrame:
    """A CSV or TSV manifest with every cell as text, and only the columns that it has. Raises UserError."""
    _check_there(path)
    table = open_table(path, COLUMNS)
    table.require(("path", "text"))
    if table.notice:
        tell(table.notice)
    columns: dict[str, list[str]] = {name: [] for name in table.header if name}
    for line in table.lines(lenient=True):
        if line.fault:
            raise UserError(f"{path}, line {line.number}: {line.fault}; correct the line, or leave it out")
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
        among = shown(", ".join(map(str, rows.columns)))
        raise UserError(f"manifest {path}: no column {', '.join(missing)} among {among}")
    return rows


def _check_there(path: Path) -> None:
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise UserError(f"manifest {path}: {what}; expected a CSV with columns {','.join(REQUIRED)}")


def write_manifest(rows: pd.DataFrame, path: Path) -> None:
    """Write aside, then rename; the same rows give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".partial")
    if path.suffix == ".parquet":
        rows.to_parquet(aside, index=False)
    else:
        rows.to_csv(aside, index=False, lineterminator="\n")
    aside.replace(path)


def resolve(manifest: Path | str, path: str) -> Path:
    """The place of a row's audio: absolute paths stay, others are relative to the manifest.

    A path that Windows wrote, with backslashes, is the one with slashes where only that is there.
    """
    folder = Path(manifest).parent
    place = folder / path
    if "\\" in path and not os.path.lexists(place):
        slashed = folder / path.replace("\\", "/")
        if os.path.lexists(slashed) or any(above.is_file() for above in slashed.parents):  # a member of a tar
            return slashed
    return place
