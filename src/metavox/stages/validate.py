"""The validate stage: prepared recordings in; trusted rows, a quarantine with reasons and a verdict out."""

from pathlib import Path
from typing import Any

import pandas as pd

from metavox.corpus.manifest import read_manifest, write_manifest
from metavox.corpus.quality import Verdict, judge
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.params import Params, Validate


def run(params: Params, root: Path) -> None:
    """Judge `artifacts/prepared`; write `artifacts/validated/` and `artifacts/metrics/validate.json`.

    Raises UserError on a fault of the whole set, and then leaves `artifacts/validated/` as it was. Verdict
    and quarantine are in `.metavox/validate/` either way: DVC removes a stage's outputs before it runs.
    """
    limits = params.validate_
    verdict = judge(_prepared(root / "artifacts" / "prepared" / "manifest.parquet"), limits)
    reading = root / ".metavox" / "validate"
    reading.mkdir(parents=True, exist_ok=True)
    _write_quarantine(verdict.quarantine, reading / "quarantine.csv")
    write_json(reading / "verdict.json", as_json(verdict, limits))
    show(verdict)
    if not verdict.success:
        faults = "; ".join(f"{fault.name}: {fault.explanation}" for fault in verdict.failed)
        raise UserError(f"validate: {faults} (see {reading.relative_to(root)}/quarantine.csv, verdict.json)")
    with written_aside(root / "artifacts" / "validated") as folder:
        folder.mkdir()
        write_manifest(verdict.clean, folder / "manifest.parquet")
        _write_quarantine(verdict.quarantine, folder / "quarantine.csv")
        write_json(folder / "verdict.json", as_json(verdict, limits))
    write_json(root / "artifacts" / "metrics" / "validate.json", metrics(verdict))


def metrics(verdict: Verdict) -> dict[str, Any]:
    counts = {name: value for name, value in verdict.statistics.items() if name != "splits"}
    return {"success": verdict.success, "failed": [fault.name for fault in verdict.failed], **counts}


def as_json(verdict: Verdict, limits: Validate) -> dict[str, Any]:
    """No time and no machine in it: the same rows give the same bytes."""
    return {
        "success": verdict.success,
        "failed": [{"name": fault.name, "explanation": fault.explanation} for fault in verdict.failed],
        "limits": limits.model_dump(),
        "statistics": verdict.statistics,
    }


def show(verdict: Verdict) -> None:
    from rich.console import Console
    from rich.table import Table

    console, found = Console(), verdict.statistics
    console.print(
        f"{found['clean']} of {found['rows']} recordings are clean: {found['hours']:.2f} h, "
        f"{found['voices']} voices, {found['languages']} languages; {found['quarantined']} quarantined"
    )
    if found["reasons"]:
        table = Table("reason", "recordings", box=None, pad_edge=False)
        for reason, count in found["reasons"].items():
            table.add_row(reason, str(count))
        console.print(table)


def _prepared(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the prepare stage first: metavox stage prepare")
    return read_manifest(path)


def _write_quarantine(rows: pd.DataFrame, path: Path) -> None:
    """What it is and why first: that is what a person opens the file for."""
    first = [name for name in ("path", "reasons") if name in rows.columns]
    write_manifest(rows[first + [name for name in rows.columns if name not in first]], path)
