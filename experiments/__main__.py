"""`python -m experiments`: measures what each part of the training is worth."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metavox.cli.main import Commands
from metavox.cli.options import output
from metavox.telemetry import disable_telemetry

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure what each part of the training is worth; experiments/dvc.yaml runs these commands.",
)
Root = Annotated[Path, typer.Option(help="The project's folder.")]


@app.command()
def adverse(root: Root = Path()) -> None:
    """Render the test clips in conditions that no training has seen."""
    from experiments.augmentation import adverse as run
    from metavox.params import load_params

    run(load_params(root / "params.yaml", complete=True), root)


@app.command()
def train(
    arm: Annotated[
        str, typer.Argument(help="none, specaugment, noise-reverberation, classical, gan, gan-classical")
    ],
    out: Annotated[Path, typer.Option(help="The JSON file to write.", callback=output)],
    seed: Annotated[int, typer.Option(help="Of weights, batches and draws.")] = 1,
    labels: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the words that have labels.")
    ] = 1.0,
    scratch: Annotated[bool, typer.Option(help="Without the self-supervised encoder.")] = False,
    bfloat16: Annotated[bool, typer.Option(help="Train in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Train one arm with one seed, and judge it."""
    from experiments.augmentation import train as run
    from metavox.params import load_params

    run(
        load_params(root / "params.yaml", complete=True),
        root,
        out,
        arm,
        seed,
        labels,
        not scratch,
        _precision(bfloat16),
    )


@app.command()
def unlabelled(
    out: Annotated[Path, typer.Option(help="The JSON file to write.", callback=output)],
    hours: Annotated[
        float, typer.Option(min=0.0, help="Of speech to pretrain on, at most; 0 for random weights.")
    ],
    objective: Annotated[
        Literal["masked", "apc", "bestrq"] | None, typer.Option(help="Else as in params.yaml.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, batches and which recordings.")] = 1,
    bfloat16: Annotated[bool, typer.Option(help="Pretrain in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Pretrain on some hours, for as many steps as ever, and probe it on speakers it heard and on people it did not."""
    from experiments.pretraining import by_hours
    from metavox.params import load_params

    params = load_params(root / "params.yaml", complete=True)
    chosen = params.pretrain.model_copy(
        update={"objective": objective or params.pretrain.objective, "precision": _precision(bfloat16)}
    )
    by_hours(params.model_copy(update={"pretrain": chosen}), root, out, hours, seed)


@app.command()
def words(root: Root = Path()) -> None:
    """Prepare words with all extras, and render the test's in conditions that no training has seen."""
    from experiments.representation import words as run
    from metavox.params import load_params

    run(load_params(root / "params.yaml", complete=True), root)


@app.command()
def representation(
    kind: Annotated[str, typer.Argument(help="A front end or an encoder, as mel-pcen or cnn.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.", callback=output)],
    seed: Annotated[int, typer.Option(help="Of weights, batches and draws.")] = 1,
    bfloat16: Annotated[bool, typer.Option(help="Train in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Train one front end or encoder from random weights, and judge it."""
    from experiments.representation import train as run
    from metavox.params import load_params

    run(load_params(root / "params.yaml", complete=True), root, out, kind, seed, _precision(bfloat16))


@app.command()
def representations(root: Root = Path()) -> None:
    """The table of all front ends and encoders that have run: accuracy in % ± 95%, and the share of errors that is gone."""
    from experiments.representation import table as tabulate

    typer.echo(tabulate(root).to_string(index=False))


@app.command()
def warm(
    seed: Annotated[int, typer.Option(help="Of weights, batches and draws.")] = 1,
    bfloat16: Annotated[bool, typer.Option(help="Train in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Train the start that all learners of a seed begin from."""
    from experiments.learners import warm as run
    from metavox.params import load_params

    run(load_params(root / "params.yaml", complete=True), root, seed, _precision(bfloat16))


@app.command()
def learner(
    arm: Annotated[
        str,
        typer.Argument(
            help="joint, protonet, fomaml, maml, metasgd, anil, reptile, one-language, new-words, curriculum"
        ),
    ],
    out: Annotated[Path, typer.Option(help="The JSON file to write.", callback=output)],
    seed: Annotated[int, typer.Option(help="Of the warm-up, batches and draws.")] = 1,
    bfloat16: Annotated[bool, typer.Option(help="Train in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Train one arm from the start of its seed, on the budget of joint training, and judge it."""
    from experiments.learners import train as run
    from metavox.params import load_params

    run(load_params(root / "params.yaml", complete=True), root, out, arm, seed, _precision(bfloat16))


@app.command()
def learners(root: Root = Path()) -> None:
    """The table of all learners that have run: accuracy in % ± 95%, and the share of joint training's error that is gone."""
    from experiments.learners import table as tabulate

    typer.echo(tabulate(root).to_string(index=False))


def _precision(bfloat16: bool) -> Literal["float32", "bfloat16"]:
    return "bfloat16" if bfloat16 else "float32"


@app.command()
def table(root: Root = Path()) -> None:
    """The tables of all arms that have run: accuracy in % ± 95%, and the error relative to the baseline's."""
    from experiments.augmentation import tabulate
    from metavox.params import load_params

    for name, one in tabulate(load_params(root / "params.yaml", complete=True), root).items():
        typer.echo(f"{name}\n{one.to_string(index=False)}\n")


@app.command()
def probes(root: Root = Path()) -> None:
    """The table of all encoders that `unlabelled` made: accuracy in % ± 95%, and the gain over random weights."""
    from experiments.pretraining import table as tabulate

    typer.echo(tabulate(root).to_string(index=False))


if __name__ == "__main__":
    disable_telemetry()
    app(prog_name="python -m experiments")
