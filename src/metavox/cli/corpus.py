"""metavox corpus: lists the known sources and builds data/ from them."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from metavox.cli import corpus_add, corpus_drift, corpus_quarantine, corpus_report, speak
from metavox.cli.options import OldNames, output
from metavox.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(help="Build, extend and inspect the corpus in data/.", no_args_is_help=True)

UNITS = ("digit", "letter", "word", "sentence")


@app.command("list")
def list_sources(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the sources of recorded speech: their packages, licences and contents."""
    from metavox.sources import SOURCES

    if as_json:
        rows = [
            {"name": s.name, "packages": list(s.packages), "license": s.license, "holds": s.description}
            for s in SOURCES.values()
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table("source", "contents", "licence")
    table.add_column("Debian packages", overflow="fold")
    for source in SOURCES.values():
        table.add_row(source.name, source.description, source.license, " ".join(source.packages))
    table.add_row(
        "espeak", "synthetic words in any of 100 languages", "generated (GPL-3+)", "none: a Python wheel"
    )
    Console().print(table)


@app.command()
def build(
    profile: Annotated[str, typer.Option(help="demo, full, tiny, or the path of a profile file.")] = "demo",
    out: Annotated[Path, typer.Option(help="The folder to write.", callback=output)] = Path("data"),
    accept_new_versions: Annotated[
        bool, typer.Option(help="Accept package versions other than the pinned ones.")
    ] = False,
    force: Annotated[
        bool, typer.Option(help="Replace a folder even if it was not built by this command.")
    ] = False,
    record_digest: Annotated[bool, typer.Option(help="Record the digest in the profile.")] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write a summary of the result to this file.", callback=output),
    ] = None,
) -> None:
    """Build data/ from Debian packages and synthetic words. The same profile gives the same bytes."""
    from metavox.files import write_json
    from metavox.sources import profile as profiles
    from metavox.sources.build import build as build_corpus

    recipe = profiles.read_profile(profile)
    _check_out(out, force)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, int] = {}

        def progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)  # type: ignore[arg-type]

        built = build_corpus(recipe, out, progress, accept_new_versions)
    summary = summarise(built.rows)
    _print_summary(summary, built.rows)
    result = _compare_digests(built.digest, recipe.digest)
    if record_digest:
        profiles.record_digest(profile, built.digest)
        result = f"digest {built.digest}, recorded in {profiles.profile_path(profile).name}"
    typer.echo(f"{out}: {result}")
    if json_file:
        write_json(
            json_file,
            {
                "digest": built.digest,
                "recorded_digest": recipe.digest,
                "packages": built.versions,
                "sources": summary.to_dict(orient="records"),
                **totals(built.rows),
            },
        )


def summarise(rows: "pd.DataFrame") -> "pd.DataFrame":
    """One row for each source and split: files, minutes, speakers, languages, and files of each unit."""
    import pandas as pd

    grouped = rows.groupby(["source", "split"], sort=True)
    return pd.DataFrame(
        {
            "files": grouped.size(),
            "min": grouped["duration_s"].sum().div(60).round(1),
            "speakers": grouped["speaker"].nunique(),
            "langs": grouped["language"].nunique(),
            **{f"{unit}s": grouped["unit"].agg(partial(_count, unit)) for unit in UNITS},
        }
    ).reset_index()


def _count(unit: str, units: "pd.Series[str]") -> int:
    return int((units == unit).sum())


def totals(rows: "pd.DataFrame") -> dict[str, float | int]:
    """Hours, files, speakers and languages of the whole corpus."""
    return {
        "hours": round(float(rows["duration_s"].sum()) / 3600, 2),
        "files": len(rows),
        "speakers": int(rows["speaker"].nunique()),
        "languages": int(rows["language"].nunique()),
    }


def _print_summary(summary: "pd.DataFrame", rows: "pd.DataFrame") -> None:
    title = "{hours} h, {files} files, {speakers} speakers, {languages} languages".format(**totals(rows))
    table = Table(title=title, padding=(0, 1, 0, 0), box=box.SIMPLE, pad_edge=False)
    for name in summary.columns:
        justify: Literal["left", "right"] = "left" if name in ("source", "split") else "right"
        heading = name.replace("sentences", "lines")
        table.add_column(heading, justify=justify, no_wrap=True, min_width=len(heading))
    for row in summary.itertuples(index=False):
        table.add_row(*map(str, row))
    Console().print(table)


def _compare_digests(digest: str, recorded: str) -> str:
    if not recorded:
        return f"digest {digest}; the profile records none"
    if digest == recorded:
        return f"digest {digest}, as recorded in the profile"
    return f"digest {digest}, NOT the recorded {recorded}: the packages or the code have changed since"


def _check_out(out: Path, force: bool) -> None:
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not force:
        if out.is_dir() and (out / "manifest.csv").is_file() and (out / "shards").is_dir():
            from metavox.ingest.ingestion import added_sources

            if added := added_sources(out):
                raise UserError(
                    f"{out}: holds recordings from corpus add ({', '.join(added)}), which a build would delete; "
                    "choose another --out, or build with --force and add them again"
                )
            return
        raise UserError(
            f"{out}: not empty, and not a built corpus; choose another --out, or replace it with --force"
        )


app.command()(speak.speak)
app.command()(corpus_drift.drift)
app.command()(corpus_drift.profile)
app.add_typer(corpus_quarantine.app, name="quarantine")
app.command(cls=OldNames)(corpus_add.add)
app.command(cls=OldNames)(corpus_report.report)
app.command(cls=OldNames)(corpus_report.diff)
