"""metavox corpus: the sources there are, and data/ built from them."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from metavox.cli import corpus_add, corpus_drift, corpus_quarantine, corpus_report, speak
from metavox.cli.options import OldNames, output
from metavox.errors import UserError

app = typer.Typer(help="Recorded speech with its text, and data/ built from it.", no_args_is_help=True)

UNITS = ("digit", "letter", "word", "sentence")


@app.command("list")
def list_sources(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Sources of recorded speech: packages, licence, what each holds."""
    from metavox.sources import SOURCES

    if as_json:
        rows = [
            {"name": s.name, "packages": list(s.packages), "license": s.license, "holds": s.description}
            for s in SOURCES.values()
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table("source", "holds", "licence")
    table.add_column("Debian packages", overflow="fold")
    for source in SOURCES.values():
        table.add_row(source.name, source.description, source.license, " ".join(source.packages))
    table.add_row("espeak", "words in any of 100 languages, synthetic", "generated (GPL-3+)", "none: a wheel")
    Console().print(table)


@app.command()
def build(
    profile: Annotated[str, typer.Option(help="demo, full, tiny, or the path of a profile.")] = "demo",
    out: Annotated[Path, typer.Option(help="The folder to make.", callback=output)] = Path("data"),
    accept_new_versions: Annotated[
        bool, typer.Option(help="Go on with other package versions than the pinned ones.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Replace a folder that is not such a corpus.")] = False,
    record_digest: Annotated[bool, typer.Option(help="Write the digest into the profile.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was built here.", callback=output)
    ] = None,
) -> None:
    """Build data/ from Debian packages and synthetic words; the same profile gives the same bytes."""
    from metavox.files import write_json
    from metavox.sources import profile as profiles
    from metavox.sources.build import build as build_corpus

    wanted = profiles.read_profile(profile)
    _check_out(out, force)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, int] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        built = build_corpus(wanted, out, progress, accept_new_versions)
    summary = summarise(built.rows)
    _print(summary, built.rows)
    verdict = _compare(built.digest, wanted.digest)
    if record_digest:
        profiles.record_digest(profile, built.digest)
        verdict = f"digest {built.digest}, recorded in {profiles.profile_path(profile).name}"
    typer.echo(f"{out}: {verdict}")
    if json_file:
        write_json(
            json_file,
            {
                "digest": built.digest,
                "recorded_digest": wanted.digest,
                "packages": built.versions,
                "sources": summary.to_dict(orient="records"),
                **totals(built.rows),
            },
        )


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a source and split: files, minutes, speakers, languages, digits, words."""
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


def totals(rows: pd.DataFrame) -> dict[str, float | int]:
    """Of the whole corpus: hours, files, speakers, languages."""
    return {
        "hours": round(float(rows["duration_s"].sum()) / 3600, 2),
        "files": len(rows),
        "speakers": int(rows["speaker"].nunique()),
        "languages": int(rows["language"].nunique()),
    }


def _print(summary: pd.DataFrame, rows: pd.DataFrame) -> None:
    title = "{hours} h, {files} files, {speakers} speakers, {languages} languages".format(**totals(rows))
    table = Table(title=title, padding=(0, 1, 0, 0), box=box.SIMPLE, pad_edge=False)
    for name in summary.columns:
        text = name in ("source", "split")
        heading = name.replace("sentences", "lines")
        table.add_column(heading, justify="left" if text else "right", no_wrap=True, min_width=len(heading))
    for row in summary.itertuples(index=False):
        table.add_row(*map(str, row))
    Console().print(table)


def _compare(digest: str, recorded: str) -> str:
    if not recorded:
        return f"digest {digest}; the profile has none recorded"
    if digest == recorded:
        return f"digest {digest}, the same as recorded"
    return f"digest {digest}, NOT the recorded {recorded}: other packages or another code made that one"


def _check_out(out: Path, force: bool) -> None:
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not force:
        if out.is_dir() and (out / "manifest.csv").is_file() and (out / "shards").is_dir():
            from metavox.ingest.ingestion import added_sources

            if added := added_sources(out):
                raise UserError(
                    f"{out}: holds what corpus add brought ({', '.join(added)}), which a build would drop; "
                    "choose another --out, or --force and add it again"
                )
            return
        raise UserError(f"{out}: holds something that is no built corpus; choose another --out, or --force")


app.command()(speak.speak)
app.command()(corpus_drift.drift)
app.add_typer(corpus_quarantine.app, name="quarantine")
app.command(cls=OldNames)(corpus_add.add)
app.command(cls=OldNames)(corpus_report.report)
app.command(cls=OldNames)(corpus_report.diff)
