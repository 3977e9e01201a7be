"""`metavox search`: search for better parameters, measured on development speakers."""

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
            help="words: parameters of word learning (metatrain.*); speakers: of adaptation (adapt.*).",
        ),
    ],
    trials: Annotated[
        int, typer.Option(min=1, help="The study's total number of trials, over all processes.")
    ] = 20,
    space: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="The search space in YAML: `adapt.steps: {low: 5, high: 80, log: true}`, or a list of values.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="The folder of the study; by default .metavox/search/WHAT.", callback=output
        ),
    ] = None,
    pruner: Annotated[
        Literal["median", "halving", "none"], typer.Option(help="The rule that stops poor trials early.")
    ] = "median",
    arm: Annotated[Literal["meta", "joint"], typer.Option(help="The arm to train; words only.")] = "meta",
    seed: Annotated[
        int, typer.Option(min=0, help="The sampler's seed; that of the trials is in params.yaml.")
    ] = 0,
    root: Annotated[Path, typer.Option(help="The project's folder.")] = Path(),
    params: Annotated[
        Path | None, typer.Option(help="The parameters; by default the project's params.yaml.")
    ] = None,
) -> None:
    """Search over parameters with Optuna. Several processes can share a study; an interrupted one continues when rerun."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from metavox.params import load_params
    from metavox.search import Objective, Search
    from metavox.search.objectives import SPEAKERS, WORDS, SpeakerObjective, WordObjective
    from metavox.search.space import read_space
    from metavox.search.study import BEST, TABLE

    if what == "voices":
        print("metavox: voices is called speakers now", file=sys.stderr)
        what = "speakers"
    values = load_params(params or root / "params.yaml")
    objective: Objective = (
        WordObjective(values, root, arm) if what == "words" else SpeakerObjective(values, root)
    )
    dimensions = read_space(space, values) if space else WORDS if what == "words" else SPEAKERS
    folder = out or root / ".metavox/search" / what
    study = Search(objective, dimensions, values, folder, trials, seed, pruner)
    console = Console(stderr=True)
    columns = (TextColumn("search"), BarColumn(), TextColumn("{task.completed} of {task.total} trials"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("search", total=trials)
        trials_table = study.run(lambda ended: bar.update(task, completed=ended))
    _show(trials_table, list(dimensions), objective.direction)
    typer.echo(f"{folder / TABLE}: all trials; {folder / BEST}: the best values, to copy into params.yaml")


def _show(trials: "pd.DataFrame", names: list[str], direction: str) -> None:
    order = {"maximize": "the highest value first", "minimize": "the lowest value first"}[direction]
    rows = [
        tuple(map(_cell, (row["trial"], row["state"], row["value"], *(row.get(name) for name in names))))
        for row in trials.to_dict(orient="records")
    ]
    table(f"{len(trials)} trials, {order}", ("trial", "state", "value", *names), rows)


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
