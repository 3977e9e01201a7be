"""A CSV or TSV with the manifest's columns; `path` and `text` are enough if the options give the rest."""

import os
from collections.abc import Collection
from pathlib import Path

from metavox.dataset.manifest import COLUMNS, REQUIRED
from metavox.dataset.tables import Line, Table, TableFault, open_table
from metavox.errors import shown
from metavox.ingest.file_tree import locate
from metavox.ingest.incoming import Incoming, ReadContext, Rows, SourceFault
from metavox.quality import SPLITS, Fault

UNITS = ("", "digit", "letter", "word", "sentence")
TEXT_KINDS = ("", "spoken", "inferred", "concept")
TRUE, FALSE = ("true", "1", "yes"), ("", "false", "0", "no")
OPTIONS = "speaker and language may also be given as --speaker and --language"
NOT_READ = ("duration_s", "sample_rate", "source")  # the first two are measured; the source is this one


def detect(root: Path) -> str:
    table = table_in(root)
    return f"{table.name}, with a column path" if table else ""


def read(context: ReadContext) -> Rows:
    """Raises SourceFault for a table that cannot be read or lacks required columns."""
    path = context.root
    if path.is_dir():
        table_path = table_in(path)
        if table_path is None:
            missing = (
                "no single CSV or TSV with a column path in the folder; give the path of the file itself"
            )
            raise SourceFault("manifest missing", f"{path}: {missing}")
        path, context.find_unlisted = table_path, True
    table = open_source_table(context, path, COLUMNS)
    from_options = [name for name in ("speaker", "language") if getattr(context.options, name)]
    table.require([name for name in REQUIRED if name not in from_options], OPTIONS)
    extra = [name for name in table.header if name and name not in COLUMNS]
    if extra:
        explanation = f"{path.name}: {shown(', '.join(extra))}; a manifest has no such column"
        context.warnings.append(Fault("columns ignored", explanation))
    return (_row(context, path.parent, line) for line in table.lines())


def open_source_table(context: ReadContext, path: Path, known: Collection[str], quoted: bool = True) -> Table:
    """The table, with a warning in `context` if its encoding is a guess. Raises TableFault."""
    table = open_table(path, known, context.options.encoding, quoted, option="--encoding")
    if table.notice:
        context.warnings.append(Fault("encoding", table.notice))
    return table


def _row(context: ReadContext, folder: Path, line: Line) -> Incoming:
    cells = {name: cell.strip() for name, cell in line.cells.items() if name in COLUMNS}
    path = cells.get("path", "")
    if not path:
        return Incoming(path, line=line.number, reasons=(line.fault or "no path",))
    location, reason = locate(path, folder, context.folder, context.options.allow_outside)
    if line.fault:
        return Incoming(path, location, line.number, reasons=(line.fault,))
    reasons = [*_invalid_values(cells), *filter(None, [reason])]
    values = {name: cell for name, cell in cells.items() if name not in ("path", "synthetic", *NOT_READ)}
    synthetic = cells.get("synthetic", "").lower() in TRUE
    return Incoming(
        path,
        location,
        line.number,
        **values,  # type: ignore[arg-type]
        synthetic=synthetic,
        reasons=tuple(reasons),
    )


def _invalid_values(cells: dict[str, str]) -> list[str]:
    reasons = [
        f"{name} {shown(cells[name])!r}, expected {', '.join(filter(None, allowed))}"
        for name, allowed in (("split", ("", *SPLITS)), ("unit", UNITS), ("text_kind", TEXT_KINDS))
        if cells.get(name, "") not in allowed
    ]
    synthetic = cells.get("synthetic", "").lower()
    if synthetic not in (*TRUE, *FALSE):
        reasons.append(f"synthetic {shown(cells['synthetic'])!r}, expected true or false")
    elif synthetic in TRUE and cells.get("split", "") in ("dev", "test"):
        reasons.append(f"synthetic speech in {cells['split']}, expected only in train")
    return reasons


def table_in(folder: Path) -> Path | None:
    """manifest.csv, or the only table with a column `path`; None if there is neither.

    Raises SourceFault for a manifest.csv that is not a file.
    """
    if not folder.is_dir():
        return None
    manifest = folder / "manifest.csv"
    if os.path.lexists(manifest) and not manifest.is_file():
        raise SourceFault(
            "manifest unreadable", f"{manifest}: a folder or a dangling link; expected a CSV file"
        )
    if manifest.is_file():
        return manifest
    tables = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (".csv", ".tsv") and path.is_file() and _has_path(path)
    ]
    return tables[0] if len(tables) == 1 else None


def _has_path(path: Path) -> bool:
    try:
        return "path" in open_table(path, COLUMNS).header
    except TableFault:  # reported when the table is read
        return False
