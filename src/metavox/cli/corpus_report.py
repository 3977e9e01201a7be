"""metavox corpus report and diff: a page that describes the corpus, and the changes between two versions."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metavox.cli.corpus_versions import TRACKED, WORKSPACE, manifest_of
from metavox.cli.options import output

if TYPE_CHECKING:
    import pandas as pd

    from metavox.quality import Verdict

VERSION = "A git tag or commit, such as HEAD~1; workspace; a folder with a manifest.csv; or a manifest."
POOL_THRESHOLD = 256  # recordings from which on starting processes pays off


def report(
    manifest: Annotated[
        str, typer.Argument(help="A manifest, a folder with one, or workspace: data/ in this folder.")
    ] = WORKSPACE,
    out: Annotated[Path, typer.Option(help="The page to write.", callback=output)] = Path(
        "corpus-report.html"
    ),
    since: Annotated[str, typer.Option(help=f"Also show the changes since this version. {VERSION}")] = "",
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write one page about the corpus, with plots: its contents, the problems found, and what to do about them."""
    from rich.console import Console

    from metavox.dataset.manifest import read_manifest
    from metavox.errors import UserError
    from metavox.files import written_aside
    from metavox.params import Params, load_params
    from metavox.quality import judge
    from metavox.quality.released import RELEASED, read_released

    console = Console(stderr=True)
    path = Path(TRACKED) if manifest == WORKSPACE else Path(manifest)
    path = path / "manifest.csv" if path.is_dir() else path
    rows = read_manifest(path)
    if rows.empty:
        raise UserError(f"{path}: no row; expected at least one recording")
    previous = _read_version(since, console) if since else None
    limits = (load_params() if Path("params.yaml").is_file() else Params()).validate_
    prepared = _prepared(rows, path, manifest == WORKSPACE, console)
    with console.status("checking and plotting"):
        verdict = judge(prepared, limits, read_released(Path(RELEASED)))
        from metavox.reports.data.report import report_page

        page = report_page(prepared, verdict, limits, path, previous, since)
        with written_aside(out) as aside:
            aside.write_text(page, encoding="utf-8")
    typer.echo(f"{out}: {len(rows):,} recordings; {gate_line(verdict)}")
    if open_:
        typer.launch(str(out.resolve()))


def gate_line(verdict: "Verdict") -> str:
    """Whether the corpus passes the quality gate, and if not, every failed expectation with the values found."""
    if verdict.success:
        return "the corpus passes the quality gate"
    faults = "; ".join(f"{fault.name}: {fault.explanation}" for fault in verdict.failed)
    return f"the corpus fails the quality gate: {faults}"


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help=VERSION)] = "HEAD",
    after: Annotated[str, typer.Argument(metavar="B", help=VERSION)] = WORKSPACE,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the full result to this file.", callback=output)
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write an HTML page to this file.", callback=output)
    ] = None,
) -> None:
    """Show what changed between two versions of the corpus: recordings, hours, speakers, splits."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from metavox.files import write_json, written_aside
    from metavox.reports.data.diff import compare
    from metavox.reports.data.diff_page import diff_page, sentences, tables_of

    status, console = Console(stderr=True), Console()
    changes = compare(_read_version(before, status), _read_version(after, status))
    console.print(f"[bold]{escape(after)}[/bold] against [bold]{escape(before)}[/bold]")
    for alarm in changes.alarms:
        console.print(f"[bold red]WARNING: {escape(alarm)}[/bold red]")
    for sentence in sentences(changes):
        console.print(escape(sentence))
    for section in tables_of(changes):
        table = Table(title=escape(section.caption), title_justify="left", box=box.SIMPLE, pad_edge=False)
        for column, head in enumerate(section.heads):
            table.add_column(escape(head), overflow="fold", min_width=0 if column else 12)
        for row in section.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    if json_file:
        write_json(json_file, {"before": before, "after": after, **changes.as_json()})
    if html_file:
        with written_aside(html_file) as aside:
            aside.write_text(diff_page(changes, before, after), encoding="utf-8")


def _read_version(version: str, console: Any) -> "pd.DataFrame":
    with console.status(f"reading {version}"):
        return manifest_of(version, Path())


def _prepared(rows: "pd.DataFrame", manifest: Path, pipeline: bool, console: Any) -> "pd.DataFrame":
    """The rows with their measures: those that the pipeline prepared, if they are of these rows; else measured now."""
    import os

    from rich.progress import track

    from metavox.reports.data.rows import measured, prepared_rows

    prepared = prepared_rows(Path("artifacts/prepared"), rows) if pipeline else None
    if prepared is not None:
        return prepared

    def progress(chunks: Iterable[Any], count: int) -> Iterable[Any]:
        return track(chunks, "measuring", total=count, transient=True, console=console)

    return measured(rows, manifest, 1 if len(rows) <= POOL_THRESHOLD else os.cpu_count() or 1, progress)
