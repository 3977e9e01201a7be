"""validate: the quality gate divides prepared recordings into clean rows and a quarantine with reasons."""

from pathlib import Path
from typing import Any

import pandas as pd

from metavox.dataset.manifest import read_manifest, write_manifest
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.params import Params, Validate
from metavox.quality import Fault, Verdict, judge
from metavox.quality.docs import expectations
from metavox.quality.drift import profile
from metavox.quality.released import RELEASED, read_released
from metavox.reports.data.report import write_report
from metavox.reports.render import render

FIRST = ("path", "reasons", "checks")  # the first columns of quarantine.csv
DOCS = "expectations.html"


def run(params: Params, root: Path) -> None:
    """artifacts/prepared -> artifacts/{validated, data_report, metrics/validate.json}.

    `.metavox/validate/` always holds the verdict, the quarantine and the expectations, because DVC removes a stage's
    outputs before it runs. Raises UserError when a check of the whole set fails; `artifacts/` is then left as it was, and
    the report is in `.metavox/validate/`.
    """
    limits = params.validate_
    prepared = _prepared(root / "artifacts" / "prepared" / "manifest.parquet")
    verdict = judge(prepared, limits, read_released(root / RELEASED))
    diagnostics = root / ".metavox" / "validate"
    diagnostics.mkdir(parents=True, exist_ok=True)
    write_quarantine(verdict.quarantine, diagnostics / "quarantine.csv")
    write_json(diagnostics / "verdict.json", as_json(verdict, limits))
    write_docs(verdict, diagnostics / DOCS)
    show(verdict)
    if not verdict.success:
        if len(verdict.clean) or len(verdict.quarantine):  # without either, there is nothing to report on
            write_report(prepared, verdict, limits, diagnostics, root)
        faults = "; ".join(f"{fault.name}: {fault.explanation}" for fault in verdict.failed)
        raise UserError(
            f"validate: {faults} (see {diagnostics.relative_to(root)}/report.html, quarantine.csv)"
        )
    with written_aside(root / "artifacts" / "validated") as folder:
        folder.mkdir()
        write_manifest(verdict.clean, folder / "manifest.parquet")
        write_quarantine(verdict.quarantine, folder / "quarantine.csv")
        write_json(folder / "verdict.json", as_json(verdict, limits))
        write_json(folder / "profile.json", profile(verdict.clean))
    _write_pages(prepared, verdict, limits, root)
    write_json(root / "artifacts" / "metrics" / "validate.json", metrics(verdict))


def metrics(verdict: Verdict) -> dict[str, Any]:
    counts = {name: value for name, value in verdict.statistics.items() if name != "splits"}
    return {
        "success": verdict.success,
        "failed": [fault.name for fault in verdict.failed],
        "warnings": [fault.name for fault in verdict.warnings],
        "warned": len(verdict.warnings),
        **counts,
    }


def as_json(verdict: Verdict, limits: Validate) -> dict[str, Any]:
    """The verdict as JSON, without time or machine, so that the same rows give the same bytes."""

    def listed(faults: list[Fault]) -> list[dict[str, str]]:
        return [{"name": fault.name, "explanation": fault.explanation} for fault in faults]

    return {
        "success": verdict.success,
        "failed": listed(verdict.failed),
        "warnings": listed(verdict.warnings),
        "limits": limits.model_dump(),
        "statistics": verdict.statistics,
    }


def show(verdict: Verdict) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console, statistics = Console(), verdict.statistics
    console.print(
        f"{statistics['clean']} of {statistics['rows']} recordings are clean: {statistics['hours']:.2f} h, "
        f"{statistics['speakers']} speakers, {statistics['languages']} languages; {statistics['quarantined']} quarantined"
        + (f", {statistics['released']} released" if statistics["released"] else ""),
        soft_wrap=True,
    )
    if statistics["reasons"]:
        table = Table("reason", "recordings", box=None, pad_edge=False)
        for reason, count in statistics["reasons"].items():
            table.add_row(reason, str(count))
        console.print(table)
        console.print("To list them, run: metavox corpus quarantine list")
    for warning in verdict.warnings:
        console.print(escape(f"warning: {warning.name}: {warning.explanation}"), soft_wrap=True)


def _prepared(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `metavox stage prepare` first")
    return read_manifest(path)


def write_quarantine(rows: pd.DataFrame, path: Path) -> None:
    first = [name for name in FIRST if name in rows.columns]
    write_manifest(rows[first + [name for name in rows.columns if name not in first]], path)


def write_docs(verdict: Verdict, path: Path) -> None:
    """Write the page of all expectations and their results."""
    with written_aside(path) as aside:
        aside.write_text(render("expectations.html", **expectations(verdict)), encoding="utf-8")


def _write_pages(prepared: pd.DataFrame, verdict: Verdict, limits: Validate, root: Path) -> None:
    """Write the pages of artifacts/data_report: the expectations and the report."""
    with written_aside(root / "artifacts" / "data_report") as folder:
        folder.mkdir()
        write_docs(verdict, folder / DOCS)
        write_report(prepared, verdict, limits, folder, root)
