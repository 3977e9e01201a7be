"""metavox corpus drift: new recordings against the data that a model learned from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from metavox.cli.options import output
from metavox.errors import UserError

PROFILE = "data_profile.json"
DRIFTED = 1  # exit status
LONGEST_S = 600.0


def drift(
    manifest: Annotated[Path, typer.Argument(help="The recordings, or a prepared manifest.parquet.")],
    model: Annotated[
        str, typer.Option(help="A base or a model's folder; by default the one in use, else the conformer.")
    ] = "",
    profile: Annotated[
        Path | None, typer.Option(help="Compare with this profile.json, not a model's.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was found here.", callback=output)
    ] = None,
    params: Annotated[Path, typer.Option(help="Where max_drift is, in section validate.")] = Path(
        "params.yaml"
    ),
) -> None:
    """Say whether recordings differ from what a model learned from. Exit status 1: they do; 0: they do not."""
    from metavox.files import write_json
    from metavox.params import Params, load_params
    from metavox.quality.drift import judge_drift

    limits = (load_params(params) if params.is_file() else Params()).validate_
    known, place = _known(model, profile)
    rows = measured(manifest)
    broken = rows["error"].fillna("").astype(str)
    if (broken == "").sum() == 0:
        raise UserError(f"{manifest}: none of {len(rows)} recordings can be decoded" + _first(broken))
    found = judge_drift(rows, known, limits)
    if json_file:
        shown = {name: [asdict(shift) for shift in shifts] for name, shifts in _both(found).items()}
        about = {"drifted": not found.success, "rows": found.rows, "undecodable": int((broken != "").sum())}
        write_json(json_file, {**about, "profile": str(place), "max_drift": limits.max_drift, **shown})
    for kind, shifts in _both(found).items():
        for shift in shifts:
            label = "drift" if kind == "failed" else "note"
            typer.echo(
                f"{label}: {shift.name}: {shift.explanation}\n  new    {shift.new}\n  known  {shift.known}"
            )
    said = "differ from" if found.failed else "are like"
    typer.echo(f"{found.rows} recordings {said} the {known['rows']} of {place}")
    if (broken != "").any():
        typer.echo(
            f"{int((broken != '').sum())} recordings cannot be decoded and are left out{_first(broken)}",
            err=True,
        )
    raise typer.Exit(0 if found.success else DRIFTED)


def _both(found: Any) -> dict[str, list[Any]]:
    return {"failed": found.failed, "warnings": found.warnings}


def _first(errors: "pd.Series[str]") -> str:
    return f", the first: {next((error for error in errors if error), '')}"


def _known(model: str, profile: Path | None) -> tuple[dict[str, Any], Path]:
    """The profile to compare with, and where it is."""
    if profile is None:
        from metavox.recognisers.bases.catalogue import CONFORMER
        from metavox.recognisers.bases.find import bundled, find_base, named

        wanted = named(model)
        base = find_base(wanted) if wanted else bundled() or find_base(CONFORMER)
        profile = base.folder / PROFILE
    if not profile.is_file():
        raise UserError(
            f"{profile}: no such file; the model has no profile of its data, name one with --profile "
            "artifacts/validated/profile.json"
        )
    try:
        known = json.loads(profile.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{profile}: not JSON ({error}); expected a profile as validate writes it") from error
    if not isinstance(known, dict) or not {"rows", "measures", "shares", "alphabet"} <= known.keys():
        raise UserError(f"{profile}: not a profile; expected one as validate writes it")
    return known, profile


def measured(manifest: Path) -> pd.DataFrame:
    """The rows with their measures: those of a prepared manifest, else of the recordings themselves."""
    from rich.console import Console
    from rich.progress import track

    from metavox.dataset.manifest import read_manifest, resolve
    from metavox.quality.indicators import MEASURED

    rows = read_manifest(manifest)
    if rows.empty:
        raise UserError(f"{manifest}: no row; expected at least one recording")
    if {*MEASURED, "error"} <= set(rows.columns):
        return rows
    paths = [str(resolve(manifest, path)) for path in rows["path"]]
    console = Console(stderr=True)
    found = [_measure(path) for path in track(paths, "measure", console=console, transient=True)]
    return rows.assign(**pd.DataFrame(found, index=rows.index))


def _measure(path: str) -> dict[str, object]:
    from metavox.audio.measure import Measures, measure
    from metavox.audio.read import decode, read_bytes

    try:
        samples, rate = decode(read_bytes(path), path, LONGEST_S)
    except UserError as error:
        unmeasured = dict.fromkeys(Measures.__dataclass_fields__, float("nan"))
        return {**unmeasured, "sample_rate": 0, "error": str(error)}
    return {**asdict(measure(samples, rate)), "sample_rate": rate, "error": ""}
