"""The manifest: one row an utterance, the same columns from corpus to report.

CSV is for people and for `data/`, Parquet for the pipeline. `path` is absolute or relative to
the manifest; it may run through a tar file (`shards/asterisk-000.tar/en/hello.wav`).
"""

from pathlib import Path
from typing import Any

import pandas as pd

from metavox.errors import UserError

REQUIRED = ("path", "text", "voice", "language")
COLUMNS: dict[str, Any] = {
    "path": "",
    "text": "",
    "voice": "",
    "language": "",
    "person": "",  # voices known to be one person share it; empty means the voice itself
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


def read_manifest(path: Path | str) -> pd.DataFrame:
    """Read a CSV or Parquet manifest; missing optional columns get their defaults.

    Raises UserError when the file is missing, unreadable, or lacks a required column.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"manifest {path}: no such file; expected a CSV with columns {','.join(REQUIRED)}")
    try:
        if path.suffix == ".parquet":
            rows = pd.read_parquet(path)
        else:
            rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"manifest {path}: cannot be read ({reason}); expected UTF-8 CSV") from error
    missing = [name for name in ("path", "text") if name not in rows.columns]
    if missing:
        raise UserError(
            f"manifest {path}: no column {', '.join(missing)} among {', '.join(map(str, rows.columns))}; "
            f"expected {', '.join(REQUIRED)}"
        )
    rows = rows.assign(**{name: value for name, value in COLUMNS.items() if name not in rows.columns})
    rows["duration_s"] = pd.to_numeric(rows["duration_s"], errors="coerce")
    rows["sample_rate"] = pd.to_numeric(rows["sample_rate"], errors="coerce").fillna(0).astype(int)
    rows["synthetic"] = rows["synthetic"].astype(str).str.lower().isin(("true", "1"))
    return rows


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
    """The place of a row's audio: absolute paths stay, others are relative to the manifest."""
    return Path(path) if Path(path).is_absolute() else Path(manifest).parent / path
