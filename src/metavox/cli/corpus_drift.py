"""metavox corpus drift: compares new recordings with the data that a model learned from."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metavox.cli.options import output
from metavox.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from metavox.quality.drift import Drift

PROFILE = "data_profile.json"
DRIFTED = 1  # exit status
MAX_RECORDING_S = 600.0


def drift(
    manifest: Annotated[Path, typer.Argument(help="The recordings, or a prepared manifest.parquet.")],
    model: Annotated[
        str, typer.Option(help="A base or a model's folder. Default: the model in use, else the conformer.")
    ] = "",
    profile: Annotated[
        Path | None, typer.Option(help="Compare with this profile.json instead of a model's.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.", callback=output)
    ] = None,
    params: Annotated[Path, typer.Option(help="The file with max_drift, in section validate.")] = Path(
        "params.yaml"
    ),
) -> None:
    """Report whether recordings differ from the data that a model learned from (exit status 1 if so, else 0)."""
    from metavox.params import Params, load_params
    from metavox.quality.drift import judge_drift

    limits = (load_params(params) if params.is_file() else Params()).validate_
    known, known_path = _known_profile(model, profile)
    rows = measured(manifest)
    errors = rows["error"].fillna("").astype(str)
    undecodable = int((errors != "").sum())
    if undecodable == len(rows):
        raise UserError(f"{manifest}: none of {len(rows)} recordings can be decoded" + _first_error(errors))
    result = judge_drift(rows, known, limits)
    if json_file:
        about = {"profile": str(known_path), "max_drift": limits.max_drift}
        _write_json(json_file, result, undecodable, about)
    for label, shift in _labelled_shifts(result):
        typer.echo(f"{label}: {shift.name}: {shift.explanation}")
        typer.echo(f"  new    {shift.new}\n  known  {shift.known}")
    comparison = "differ from" if result.failed else "are like"
    typer.echo(f"{result.rows} recordings {comparison} the {known['rows']} of {known_path}")
    if undecodable:
        message = f"{undecodable} recordings cannot be decoded and are left out{_first_error(errors)}"
        typer.echo(message, err=True)
    raise typer.Exit(0 if result.success else DRIFTED)


def profile(
    manifest: Annotated[Path, typer.Argument(help="The recordings, or a prepared manifest.parquet.")],
    out: Annotated[Path, typer.Option(help="The profile, for `corpus drift --profile`.", callback=output)],
) -> None:
    """Summarise recordings as a profile, with which `corpus drift` compares others. It contains no row of them."""
    from metavox.files import write_json
    from metavox.quality.drift import profile as summary

    rows = measured(manifest)
    decoded = rows[rows["error"].fillna("").astype(str) == ""]
    if decoded.empty:
        raise UserError(
            f"{manifest}: none of {len(rows)} recordings can be decoded" + _first_error(rows["error"])
        )
    write_json(out, summary(decoded))
    typer.echo(f"{out}: {len(decoded)} recordings")


def _labelled_shifts(result: "Drift") -> Iterator[tuple[str, Any]]:
    for shift in result.failed:
        yield "drift", shift
    for shift in result.warnings:
        yield "warning", shift


def _write_json(path: Path, result: "Drift", undecodable: int, about: dict[str, Any]) -> None:
    from metavox.files import write_json

    summary = {"drifted": not result.success, "rows": result.rows, "undecodable": undecodable, **about}
    shifts = {
        "failed": [asdict(shift) for shift in result.failed],
        "warnings": [asdict(shift) for shift in result.warnings],
    }
    write_json(path, {**summary, **shifts})


def _first_error(errors: "pd.Series[str]") -> str:
    return f", the first: {next((error for error in errors if error), '')}"


def _known_profile(model: str, profile: Path | None) -> tuple[dict[str, Any], Path]:
    """(the profile to compare with, its path). Raises UserError if there is none, or it is not valid."""
    if profile is None:
        from metavox.recognisers.bases.catalogue import CONFORMER
        from metavox.recognisers.bases.find import bundled, find_base, named

        name = named(model)
        base = find_base(name) if name else bundled() or find_base(CONFORMER)
        profile = base.folder / PROFILE
    if not profile.is_file():
        raise UserError(
            f"{profile}: no such file; the model has no profile of its data, choose another with --profile "
            "artifacts/validated/profile.json"
        )
    try:
        known = json.loads(profile.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{profile}: not JSON ({error}); expected a profile from the validate stage"
        ) from error
    if not isinstance(known, dict) or not {"rows", "measures", "shares", "alphabet"} <= known.keys():
        raise UserError(f"{profile}: not a profile; expected one from the validate stage")
    return known, profile


def measured(manifest: Path) -> "pd.DataFrame":
    """The rows with their measures, those of a prepared manifest if it has them; else the recordings are measured.

    Raises UserError for a manifest that cannot be read or has no row.
    """
    import pandas as pd
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
    measures = [_measure(path) for path in track(paths, "measuring", console=console, transient=True)]
    return rows.assign(**pd.DataFrame(measures, index=rows.index))


def _measure(path: str) -> dict[str, object]:
    from metavox.audio.measure import Measures, measure
    from metavox.audio.read import decode, read_bytes

    try:
        samples, rate = decode(read_bytes(path), path, MAX_RECORDING_S)
    except UserError as error:
        unmeasured = dict.fromkeys(Measures.__dataclass_fields__, float("nan"))
        return {**unmeasured, "sample_rate": 0, "error": str(error)}
    return {**asdict(measure(samples, rate)), "sample_rate": rate, "error": ""}
