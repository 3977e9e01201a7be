"""Labelled recordings from a table or a folder of any layout: what commands accept in place of a manifest."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from metavox.dataset.manifest import COLUMNS, Tell, read_manifest, resolve, with_defaults
from metavox.errors import UserError, shown
from metavox.ingest.incoming import AddOptions, Incoming, ReadContext, Rows, SourceFault
from metavox.ingest.layouts import absolute, detect, read
from metavox.ingest.table_rows import table_in

EXPECTED = (
    "expected a table path,text,speaker,language, or a folder such as label/*.wav, speaker/label/*.wav,"
    " speaker_label_1.wav, or recordings each beside a .txt"
)
SEGMENT = "a segment of a longer recording; cut it with `metavox corpus add`"


def read_labelled(path: Path, tell: Tell = lambda line: None) -> pd.DataFrame:
    """The rows of a manifest, or of a folder or tar whose names or tables give the texts; columns as `COLUMNS`.

    The rows of a folder have absolute paths. `tell` is called with lines that say which layout was detected and
    what is left out. Raises UserError if nothing can be read.
    """
    if not path.is_dir() and path.suffix != ".tar":
        return read_manifest(path, tell)
    context = ReadContext(absolute(path), AddOptions())
    try:
        layout, _ = detect(context)
        if layout == "csv" and (table := table_in(context.root)):
            rows = read_manifest(table, tell)
            return rows.assign(path=[str(resolve(table, recording)) for recording in rows["path"]])
        incoming, description = read(context)
        rows = _usable(incoming, path, tell)
    except SourceFault as fault:
        if fault.name != "layout":
            raise
        raise UserError(f"{str(fault).partition('; ')[0]}; {EXPECTED}") from fault
    for warning in context.warnings:
        tell(f"{warning.name}: {warning.explanation}")
    tell(f"{path}: {len(rows)} recordings, read as {description}")
    return rows


def _usable(incoming: Rows, folder: Path, tell: Tell) -> pd.DataFrame:
    usable: list[dict[str, object]] = []
    left_out: list[str] = []
    for row in incoming:
        reason = "; ".join(row.reasons) or (SEGMENT if row.location and row.location.segment else "")
        if reason or row.location is None:
            left_out.append(f"{shown(row.path)}: {reason or 'no recording'}")
        else:
            usable.append(_manifest_row(row))
    if not usable:
        first = f", the first being {left_out[0]}" if left_out else ""
        raise UserError(f"{folder}: no usable recording{first}; {EXPECTED}")
    if left_out:
        total = len(usable) + len(left_out)
        tell(f"{folder}: {len(left_out)} of {total} recordings are left out; the first: {left_out[0]}")
    return with_defaults(pd.DataFrame(usable))


def _manifest_row(row: Incoming) -> dict[str, object]:
    assert row.location is not None
    values = {name: value for name, value in asdict(row).items() if name in COLUMNS}
    path = Path(row.location.file)
    return {**values, "path": str(path / row.location.member if row.location.member else path)}
