"""`metavox champion`: the model that is served, its versions, and the way back."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metavox.cli.console import table
from metavox.cli.options import output
from metavox.errors import UserError
from metavox.files import written_aside

if TYPE_CHECKING:
    from metavox.promotion.versions import Version

app = typer.Typer(
    no_args_is_help=True, help="The model that is served: its versions, where it came from, and the way back."
)
Project = Annotated[Path, typer.Option("--project", file_okay=False, help="The checkout.")]


@app.command()
def start(
    base: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="The base model.")],
    out: Annotated[
        Path, typer.Option(file_okay=False, callback=output, help="The folder of the model.")
    ] = Path("champion"),
) -> None:
    """Make the first champion: a copy of a base model, with nothing learned."""
    from metavox.recognisers.bases.find import find_base

    if out.exists():
        raise UserError(f"{out}: is there already; expected a new folder")
    with written_aside(out) as aside:
        shutil.copytree(find_base(base).folder, aside)


@app.command("list")
def list_(project: Project = Path()) -> None:
    """List the versions, the newest first."""
    from metavox.promotion import canary
    from metavox.promotion.versions import champion, previous, versions

    present, before = champion(project), previous(project)
    states = {v.name: state for v, state in ((before, "previous"), (present, "champion")) if v}
    waiting = canary.record_of(project)
    lines = [
        (
            version.name,
            states.get(version.name, ""),
            version.record.get("batch", ""),
            str(len(version.record.get("recordings", ()))),
            version.record.get("why", ""),
        )
        for version in versions(project)
    ]
    if waiting:
        lines.insert(0, ("", "canary", waiting["batch"], str(len(waiting["recordings"])), waiting["why"]))
    table(f"{len(lines)} versions", ("version", "", "batch", "taught by", "why"), lines)


@app.command()
def rollback(
    version: Annotated[
        str, typer.Argument(help="The version; by default the champion before this one.")
    ] = "",
    project: Project = Path(),
) -> None:
    """Make an earlier version the champion again, with all that belongs to it."""
    from metavox.promotion.versions import champion, roll_back

    before = champion(project)
    now = roll_back(project, version)
    typer.echo(f"champion: {now.name}, was {before.name if before else 'none'}; {now.record.get('why', '')}")


@app.command()
def promote(project: Project = Path()) -> None:
    """Make the canary the champion now, without waiting for the next batch of recordings."""
    from metavox.promotion import canary
    from metavox.promotion.versions import person

    who = person(project)
    now = canary.promote(project, {"by": who, "policy": ""}, "promoted by hand")
    typer.echo(f"champion: {now.name}, promoted by {who}")


@app.command()
def drop(project: Project = Path()) -> None:
    """Remove the canary: the champion answers every request again."""
    from metavox.promotion import canary
    from metavox.promotion.versions import commit, person

    if canary.record_of(project) is None:
        raise UserError(f"{project}: there is no canary; `metavox champion list` would show one")
    canary.discard(project)
    commit(project, f"canary removed by {person(project)}")
    typer.echo("the champion answers every request again")


@app.command()
def refuse(
    batch: Annotated[
        str, typer.Argument(help="The batch, as `metavox champion list` and field.csv name it.")
    ],
    project: Project = Path(),
) -> None:
    """Keep a batch's recordings out of all later challengers. The champion stays; `rollback` goes back before it."""
    import pandas as pd

    from metavox.promotion.versions import DECISIONS, commit, person

    path = project / DECISIONS
    decided = pd.read_csv(path, dtype=str) if path.is_file() else pd.DataFrame(columns=["batch", "decision"])
    rows = decided["batch"] == batch
    if not rows.any():
        known = ", ".join(sorted(decided["batch"].unique())) or "none"
        raise UserError(f"batch {batch}: there is none in {path}; expected one of {known}")
    decided.loc[rows, "decision"] = "refused"
    with written_aside(path) as aside:
        decided.to_csv(aside, index=False)
    commit(project, f"batch {batch} refused by {person(project)}")
    typer.echo(f"{int(rows.sum())} recordings of {batch} are refused")


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest versions to keep.")] = 5,
    remote: Annotated[
        bool, typer.Option("--remote", help="Delete from DVC's default remote as well.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    project: Project = Path(),
) -> None:
    """Delete the files of old versions, never those of the champion, the one before it, or anything else in use."""
    from metavox.promotion.retention import prune as delete

    found = delete(project, keep, remote, dry_run)
    what = "would be deleted" if dry_run else "deleted"
    names = ", ".join(found.versions) or "none"
    typer.echo(f"{what}: {found.files} files, {found.bytes / 1e6:.1f} MB; versions: {names}")


@app.command()
def lineage(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="What a response says in its header x-metavox-model, a version, or with --log its x-request-id.",
        ),
    ],
    log: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The file of `metavox serve --request-log`.")
    ] = None,
    project: Project = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every recording.")] = False,
) -> None:
    """Trace a response of the service to the version, the code, the data and the recordings that it came from."""
    if log is not None:
        model = _model_of(model, log)
    found = _version_of(model, project)
    if as_json:
        typer.echo(json.dumps(found.record | {"committed": found.commit}, indent=1, ensure_ascii=False))
        return
    record: dict[str, Any] = found.record
    for name, value in (
        ("version", f"{found.name}, after {record['parent'] or 'nothing'}"),
        ("model", record["model"]),
        ("decided by", f"{record['decided']['by']} {record['decided']['policy']}: {record['why']}"),
        ("code", record["commit"]),
        ("data", f"field.dvc {record['data']}, batch {record['batch']}"),
        ("taught by", f"{len(record['recordings'])} recordings (--json lists them)"),
    ):
        typer.echo(f"{name}: {value}")


def _model_of(request: str, log: Path) -> str:
    """The model that answered a request, by the request log. Also prints the deltas that it used."""
    from metavox.journal import lines

    if not log.is_file():
        raise UserError(f"--log {log}: no such file; `metavox serve --request-log FILE` writes it")
    if found := next((line for line in lines(log) if line["id"] == request), None):
        for name in ("time", "request", "voices", "vocabulary"):
            if value := found.get(name):
                typer.echo(f"{name}: {value if isinstance(value, str) else ', '.join(value)}", err=True)
        return str(found["model"])
    raise UserError(f"{request}: not in {log}; expected the header x-request-id of an answer")


def _version_of(model: str, project: Path) -> "Version":
    from metavox.promotion.versions import versions

    known = versions(project)
    for version in known:
        if version.name == model or (
            len(model) >= 8 and str(version.record.get("model", "")).startswith(model)
        ):
            return version
    names = ", ".join(version.name for version in known) or "none"
    raise UserError(
        f"{model}: no version has this model; expected the start of its digest, or one of {names}"
    )
