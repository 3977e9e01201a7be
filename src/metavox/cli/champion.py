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
    from metavox.promotion.versions import champion, versions

    present = champion(project)
    lines = [
        (
            version.name,
            "champion" if present and version.name == present.name else "",
            version.record.get("batch", ""),
            str(len(version.record.get("recordings", ()))),
            version.record.get("why", ""),
        )
        for version in versions(project)
    ]
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
def lineage(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="What a response says in its header x-metavox-model, or a version."
        ),
    ],
    project: Project = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every recording.")] = False,
) -> None:
    """Trace a response of the service to the version, the code, the data and the recordings that it came from."""
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
