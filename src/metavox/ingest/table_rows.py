"""A CSV or TSV with the manifest's columns; `path` and `text` are enough when the options say the rest."""

import os
from collections.abc import Collection
from pathlib import Path

from metavox.dataset.manifest import COLUMNS, REQUIRED
from metavox.dataset.tables import Line, Table, TableFault, open_table
from metavox.errors import shown
from metavox.ingest.incoming import Given, Incoming, Rows, SourceFault
from metavox.ingest.tree import locate
from metavox.quality import SPLITS, Fault

UNITS = ("", "digit", "letter", "word", "sentence")
TEXT_KINDS = ("", "spoken", "inferred", "concept")
TRUE, FALSE = ("true", "1", "yes"), ("", "false", "0", "no")
OPTIONS = "speaker and language may also be given as --speaker and --language"
MEASURED = ("duration_s", "sample_rate", "source")  # measured anew; the source is what is added


def finds(root: Path) -> str:
    table = table_in(root)
    return f"{table.name}, with a column path" if table else ""


def read(given: Given) -> Rows:
    """Raises SourceFault for a table that cannot be read, or without the columns that are needed."""
    path = given.root
    if path.is_dir():
        found = table_in(path)
        if found is None:
            told = f"{path}: a folder without one CSV or TSV that has a column path; name the file itself"
            raise SourceFault("manifest missing", told)
        path, given.sweep = found, True
    table = opened(given, path, COLUMNS)
    said_for_all = [name for name in ("speaker", "language") if getattr(given.options, name)]
    table.require([name for name in REQUIRED if name not in said_for_all], OPTIONS)
    extra = [name for name in table.header if name and name not in COLUMNS]
    if extra:
        said = f"{path.name}: {shown(', '.join(extra))}; the manifest has no such column"
        given.warnings.append(Fault("columns ignored", said))
    return (_row(given, path.parent, line) for line in table.lines())


def opened(given: Given, path: Path, known: Collection[str], quoted: bool = True) -> Table:
    """The table, with a warning where its encoding is a guess. Raises TableFault."""
    table = open_table(path, known, given.options.encoding, quoted, option="--encoding")
    if table.notice:
        given.warnings.append(Fault("encoding", table.notice))
    return table


def _row(given: Given, folder: Path, line: Line) -> Incoming:
    cells = {name: cell.strip() for name, cell in line.cells.items() if name in COLUMNS}
    path = cells.get("path", "")
    if not path:
        return Incoming(path, line=line.number, reasons=(line.fault or "no path",))
    place, reason = locate(path, folder, given.folder, given.options.allow_outside)
    if line.fault:
        return Incoming(path, place, line.number, reasons=(line.fault,))
    reasons = [*_wrong(cells), *filter(None, [reason])]
    said = {name: cell for name, cell in cells.items() if name not in ("path", "synthetic", *MEASURED)}
    synthetic = cells.get("synthetic", "").lower() in TRUE
    return Incoming(path, place, line.number, **said, synthetic=synthetic, reasons=tuple(reasons))  # type: ignore[arg-type]


def _wrong(cells: dict[str, str]) -> list[str]:
    reasons = [
        f"{name} {shown(cells[name])!r}, expected {', '.join(filter(None, allowed))}"
        for name, allowed in (("split", ("", *SPLITS)), ("unit", UNITS), ("text_kind", TEXT_KINDS))
        if cells.get(name, "") not in allowed
    ]
    synthetic = cells.get("synthetic", "").lower()
    if synthetic not in (*TRUE, *FALSE):
        reasons.append(f"synthetic {shown(cells['synthetic'])!r}, expected true or false")
    elif synthetic in TRUE and cells.get("split", "") in ("dev", "test"):
        reasons.append(f"synthetic speech for {cells['split']}, expected only train")
    return reasons


def table_in(folder: Path) -> Path | None:
    """manifest.csv, or the only table with a column `path`."""
    if not folder.is_dir():
        return None
    tables = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv") and path.is_file()
    )
    whole = folder / "manifest.csv"
    if os.path.lexists(whole) and not whole.is_file():
        raise SourceFault(
            "manifest unreadable", f"{whole}: a folder, or a link to nothing; expected a CSV file"
        )
    named = [path for path in tables if path.name == "manifest.csv"] or [
        path for path in tables if _has_path(path)
    ]
    return named[0] if len(named) == 1 else None


def _has_path(path: Path) -> bool:
    try:
        return "path" in open_table(path, COLUMNS).header
    except TableFault:  # what is wrong with it is said when it is read
        return False
