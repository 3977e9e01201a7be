"""Labelled recordings from a table or from a folder, whichever it is: what commands take in place of a manifest."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from metavox.dataset.manifest import COLUMNS, Tell, read_manifest, resolve, with_defaults
from metavox.errors import UserError, shown
from metavox.ingest.incoming import AddOptions, Given, Incoming, Rows, SourceFault
from metavox.ingest.layouts import detect, read, root_of
from metavox.ingest.table_rows import table_in

EXPECTED = (
    "expected a table path,text,speaker,language, or a folder such as label/*.wav, speaker/label/*.wav,"
    " speaker_label_1.wav, or recordings each beside a .txt"
)
NOT_CUT = "a part of a longer recording; cut it with `metavox corpus add`"


def read_labelled(path: Path, tell: Tell = lambda line: None) -> pd.DataFrame:
    """The rows of a manifest, or of a folder or tar whose names or tables say what is said; columns as `COLUMNS`.

    Paths of a folder's rows are absolute. `tell` is called with a line on what was taken as what, and on what is
    left out. Raises UserError where nothing can be read.
    """
    if not path.is_dir() and path.suffix != ".tar":
        return read_manifest(path, tell)
    given = Given(root_of(path), AddOptions())
    try:
        layout, _ = detect(given)
        if layout == "csv" and (table := table_in(given.root)):
            rows = read_manifest(table, tell)
            return rows.assign(path=[str(resolve(table, one)) for one in rows["path"]])
        found, taken_as = read(given)
        rows = _usable(found, path, tell)
    except SourceFault as fault:
        if fault.name != "layout":
            raise
        raise UserError(f"{str(fault).partition('; ')[0]}; {EXPECTED}") from fault
    for warning in given.warnings:
        tell(f"{warning.name}: {warning.explanation}")
    tell(f"{path}: {len(rows)} recordings, taken as {taken_as}")
    return rows


def _usable(found: Rows, folder: Path, tell: Tell) -> pd.DataFrame:
    kept: list[dict[str, object]] = []
    left: list[str] = []
    for row in found:
        why = "; ".join(row.reasons) or (NOT_CUT if row.place and row.place.window else "")
        if why or row.place is None:
            left.append(f"{shown(row.path)}: {why or 'no recording'}")
        else:
            kept.append(_as_row(row))
    if not kept:
        first = f", the first being {left[0]}" if left else ""
        raise UserError(f"{folder}: no recording that can be used{first}; {EXPECTED}")
    if left:
        tell(
            f"{folder}: {len(left)} of {len(kept) + len(left)} recordings are left out; the first: {left[0]}"
        )
    return with_defaults(pd.DataFrame(kept))


def _as_row(row: Incoming) -> dict[str, object]:
    assert row.place is not None
    said = {name: value for name, value in asdict(row).items() if name in COLUMNS}
    path = Path(row.place.file) / row.place.member if row.place.member else Path(row.place.file)
    return {**said, "path": str(path)}
