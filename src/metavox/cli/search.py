"""`metavox search`: better parameters, by development speakers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from metavox.cli.console import table
from metavox.cli.options import output

if TYPE_CHECKING:
    import pandas as pd


def search(
    what: Annotated[
        Literal["words", "speakers", "voices"],
        typer.Argument(
            metavar="[words|speakers]",
            help="words: how an arm learns words (metatrain.*); speakers: adaptation (adapt.*).",
        ),
    ],
    trials: Annotated[
        int, typer.Option(min=1, help="How many the study has in the end, by all processes.")
    ] = 20,
    space: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="YAML: `adapt.steps: {low: 5, high: 80, log: true}`, or a list."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="The study; without it .metavox/search/WHAT.", callback=output),
    ] = None,
    pruner: Annotated[
        Literal["median", "halving", "none"], typer.Option(help="Which trials are stopped on the way.")
    ] = "median",
    arm: Annotated[Literal["meta", "joint"], typer.Option(help="Of words.")] = "meta",
    seed: Annotated[
        int, typer.Option(min=0, help="Of the sampler; that of the trials is in params.yaml.")
    ] = 0,
    root: Annotated[Path, typer.Option(help="The project's folder.")] = Path(),
    params: Annotated[
        Path | None, typer.Option(help="The project's params.yaml where none is named.")
    ] = None,
) -> None:
    """Search over parameters with Optuna. Run it in several terminals to share the work; stopped, it goes on."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from metavox.params import load_params
    from metavox.search import BEST, TABLE, Objective, Search
    from metavox.search.objectives import SPEAKERS, WORDS, SpeakerObjective, WordObjective
    from metavox.search.space import read_space

    if what == "voices":
        print("metavox: voices is called speakers now", file=sys.stderr)
        what = "speakers"
    chosen = load_params(params or root / "params.yaml")
    objective: Objective = (
        WordObjective(chosen, root, arm) if what == "words" else SpeakerObjective(chosen, root)
    )
    dimensions = read_space(space, chosen) if space else WORDS if what == "words" else SPEAKERS
    folder = out or root / ".metavox/search" / what
    study = Search(objective, dimensions, chosen, folder, trials, seed, pruner)
    console = Console(stderr=True)
    columns = (TextColumn("search"), BarColumn(), TextColumn("{task.completed} of {task.total} trials"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("search", total=trials)
        found = study.run(lambda ended: bar.update(task, completed=ended))
    _show(found, list(dimensions), objective.direction)
    typer.echo(f"{folder / TABLE}: all trials; {folder / BEST}: the best, to be put into params.yaml")


def _show(found: "pd.DataFrame", names: list[str], direction: str) -> None:
    wanted = {"maximize": "the highest value first", "minimize": "the lowest value first"}[direction]
    rows = [
        tuple(map(_cell, (row["trial"], row["state"], row["value"], *(row.get(name) for name in names))))
        for row in found.to_dict(orient="records")
    ]
    table(f"{len(found)} trials, {wanted}", ("trial", "state", "value", *names), rows)


def _cell(value: object) -> str:
    if value is None or value != value:  # nan is not itself
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
