"""metavox corpus report and diff: a page that shows what the corpus is, and what changed between two versions."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer

from metavox.cli.corpus_versions import TRACKED, WORKSPACE, manifest_of
from metavox.cli.options import output

if TYPE_CHECKING:
    from metavox.quality import Verdict

VERSION = "A git tag, commit or HEAD~1; workspace; a folder with a manifest.csv; a manifest."
FEW = 256  # recordings that are not worth starting processes for


def report(
    manifest: Annotated[
        str, typer.Argument(help="A manifest, a folder with one, or workspace: data/ as it lies here.")
    ] = WORKSPACE,
    out: Annotated[Path, typer.Option(help="The page to write.", callback=output)] = Path(
        "corpus-report.html"
    ),
    since: Annotated[str, typer.Option(help=f"Say what changed since this version. {VERSION}")] = "",
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """One page on what the corpus is, what is wrong with it, and what to do about it; with pictures."""
    from rich.console import Console

    from metavox.dataset.manifest import read_manifest
    from metavox.errors import UserError
    from metavox.files import written_aside
    from metavox.params import Params, load_params
    from metavox.quality import judge
    from metavox.quality.released import RELEASED, read_released

    console = Console(stderr=True)
    place = Path(TRACKED) if manifest == WORKSPACE else Path(manifest)
    place = place / "manifest.csv" if place.is_dir() else place
    rows = read_manifest(place)
    if rows.empty:
        raise UserError(f"{place}: no row; expected at least one recording")
    previous = _version(since, console) if since else None
    limits = (load_params() if Path("params.yaml").is_file() else Params()).validate_
    prepared = _prepared(rows, place, manifest == WORKSPACE, console)
    with console.status("judging and drawing"):
        verdict = judge(prepared, limits, read_released(Path(RELEASED)))
        from metavox.reports.data.report import report_page

        page = report_page(prepared, verdict, limits, place, previous, since)
        with written_aside(out) as aside:
            aside.write_text(page, encoding="utf-8")
    typer.echo(f"{out}: {len(rows):,} recordings, {gate_line(verdict)}")
    if open_:
        typer.launch(str(out.resolve()))


def gate_line(verdict: "Verdict") -> str:
    """Whether the gate passes the corpus, and if not, every expectation that failed and what was found."""
    if verdict.success:
        return "the gate passes it"
    faults = "; ".join(f"{fault.name}: {fault.explanation}" for fault in verdict.failed)
    return f"the gate does not pass it: {faults}"


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help=VERSION)] = "HEAD",
    after: Annotated[str, typer.Argument(metavar="B", help=VERSION)] = WORKSPACE,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all of it here.", callback=output)
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write it as a page.", callback=output)
    ] = None,
) -> None:
    """What changed between two versions of the corpus: recordings, hours, speakers, splits."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from metavox.files import write_json, written_aside
    from metavox.reports.data.diff import compare
    from metavox.reports.data.diff_page import diff_page, sentences, tables_of

    waiting, console = Console(stderr=True), Console()
    found = compare(_version(before, waiting), _version(after, waiting))
    console.print(f"[bold]{escape(after)}[/bold] against [bold]{escape(before)}[/bold]")
    for alarm in found.alarms:
        console.print(f"[bold red]WARNING: {escape(alarm)}[/bold red]")
    for sentence in sentences(found):
        console.print(escape(sentence))
    for one in tables_of(found):
        table = Table(title=escape(one.caption), title_justify="left", box=box.SIMPLE, pad_edge=False)
        for number, head in enumerate(one.heads):
            table.add_column(escape(head), overflow="fold", min_width=0 if number else 12)
        for row in one.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    if json_file:
        write_json(json_file, {"before": before, "after": after, **found.as_json()})
    if html_file:
        with written_aside(html_file) as aside:
            aside.write_text(diff_page(found, before, after), encoding="utf-8")


def _version(version: str, console: Any) -> pd.DataFrame:
    with console.status(f"reading {version}"):
        return manifest_of(version, Path())


def _prepared(rows: pd.DataFrame, place: Path, pipeline: bool, console: Any) -> pd.DataFrame:
    """What the pipeline has prepared, where it is of these rows; else measured here and now."""
    import os

    from rich.progress import track

    from metavox.reports.data.rows import measured, prepared_rows

    found = prepared_rows(Path("artifacts/prepared"), rows) if pipeline else None
    if found is not None:
        return found

    def progress(chunks: Iterable[Any], count: int) -> Iterable[Any]:
        return track(chunks, "measuring", total=count, transient=True, console=console)

    return measured(rows, place, 1 if len(rows) <= FEW else os.cpu_count() or 1, progress)
