"""`python -m experiments`: measure what each part of the training contributes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metavox import threads
from metavox.cli.main import Commands
from metavox.cli.options import output
from metavox.telemetry import disable_telemetry

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure what each part of the training contributes. experiments/dvc.yaml runs these commands.",
)
Root = Annotated[Path, typer.Option(help="The project's folder.")]
Only = Annotated[list[str] | None, typer.Option("--arm", help="Only this arm; may be repeated.")]
STARTS = Path("artifacts/ablation/starts")
StartsFolder = Annotated[Path, typer.Option(help="The folder of all starts and their results.")]
BaseName = Annotated[str, typer.Option(help="A foundation model, as `metavox base list` shows it.")]


@app.command()
def adverse(root: Root = Path()) -> None:
    """Render the test clips in conditions that no training uses."""
    from experiments.augmentation import adverse as run
    from metavox.params import load_params

    run(load_params(root / "params.yaml", complete=True), root)


@app.command()
def train(
    arm: Annotated[
        str, typer.Argument(help="none, specaugment, noise-reverberation, classical, gan, gan-classical")
    ],
    out: Annotated[Path, typer.Option(help="The JSON file to write.", callback=output)],
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and draws.")] = 1,
    labels: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the words that are labelled.")
    ] = 1.0,
    scratch: Annotated[
        bool, typer.Option(help="Start from random weights, not from the self-supervised encoder.")
    ] = False,
    bfloat16: Annotated[bool, typer.Option(help="Train in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Train one arm with one seed and evaluate it."""
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
        float, typer.Option(min=0.0, help="Hours of speech to pretrain on, at most; 0 for random weights.")
    ],
    objective: Annotated[
        Literal["masked", "apc", "bestrq"] | None, typer.Option(help="By default that of params.yaml.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and the choice of recordings.")] = 1,
    bfloat16: Annotated[bool, typer.Option(help="Pretrain in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Pretrain on some hours for a fixed number of steps, and probe the encoder on seen and unseen speakers."""
    from experiments.pretraining import by_hours
    from metavox.params import load_params

    params = load_params(root / "params.yaml", complete=True)
    config = params.pretrain.model_copy(
        update={"objective": objective or params.pretrain.objective, "precision": _precision(bfloat16)}
    )
    by_hours(params.model_copy(update={"pretrain": config}), root, out, hours, seed)


@app.command()
def words(root: Root = Path()) -> None:
    """Prepare words with all extra features, and render the test words in conditions that no training uses."""
    from experiments.representation import words as run
    from metavox.params import load_params

    run(load_params(root / "params.yaml", complete=True), root)


@app.command()
def representation(
    kind: Annotated[str, typer.Argument(help="A front end or an encoder, such as mel-pcen or cnn.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.", callback=output)],
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and draws.")] = 1,
    bfloat16: Annotated[bool, typer.Option(help="Train in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Train one front end or encoder from random weights and evaluate it."""
    from experiments.representation import train as run
    from metavox.params import load_params

    run(load_params(root / "params.yaml", complete=True), root, out, kind, seed, _precision(bfloat16))


@app.command()
def representations(root: Root = Path()) -> None:
    """Print the table of all front ends and encoders that have run: accuracy in % with 95% intervals, and relative error
    reduction."""
    from experiments.representation import table as tabulate

    typer.echo(tabulate(root).to_string(index=False))


@app.command()
def warm(
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and draws.")] = 1,
    bfloat16: Annotated[bool, typer.Option(help="Train in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Train the initial model that all learners of a seed start from."""
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
    seed: Annotated[int, typer.Option(help="Seed of the warm-up, batches and draws.")] = 1,
    bfloat16: Annotated[bool, typer.Option(help="Train in bfloat16.")] = False,
    root: Root = Path(),
) -> None:
    """Train one arm from its seed's initial model, on the budget of joint training, and evaluate it."""
    from experiments.learners import train as run
    from metavox.params import load_params

    run(load_params(root / "params.yaml", complete=True), root, out, arm, seed, _precision(bfloat16))


@app.command()
def learners(root: Root = Path()) -> None:
    """Print the table of all learners that have run: accuracy in % with 95% intervals, and error reduction relative to
    joint training."""
    from experiments.learners import table as tabulate

    typer.echo(tabulate(root).to_string(index=False))


@app.command("test-time")
def over_a_stream(
    base: Annotated[str, typer.Option(help="The base model.")] = "whisper-tiny.en",
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of a test stream, by default 1; several are pooled.")
    ] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only these arms.")] = None,
    root: Root = Path(),
) -> None:
    """Adapt a base model at test time over a stream of changing speakers and rooms, and print the table: WER in % with 95%
    intervals, and error reduction relative to no adaptation. Arms that have run are not repeated."""
    from experiments.test_time import table as tabulate

    typer.echo(tabulate(root, base, seed or [1], arm or ()).to_string(index=False))


@app.command()
def adapter_start(
    arms: Annotated[list[str], typer.Argument(help="joint, fomaml, metasgd, reptile, maml, anil")],
    folder: StartsFolder = STARTS,
    base: BaseName = "whisper-tiny.en",
    seed: Annotated[int, typer.Option(help="Seed of the factors and draws.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Meta-steps.")] = 60,
    root: Root = Path(),
) -> None:
    """Learn starts of a foundation model's adapter, all on the same tasks and number of recordings."""
    from experiments.starts import train as run

    run(root, folder, base, arms, seed, steps)


@app.command()
def choose_starts(
    tasks: Annotated[int, typer.Option(min=1, help="Development tasks.")] = 4,
    arms: Only = None,
    folder: StartsFolder = STARTS,
    base: BaseName = "whisper-tiny.en",
    root: Root = Path(),
) -> None:
    """Choose the learning rate of each arm's fine-tuning by the loss of development tasks."""
    from experiments.starts import choose

    choose(root, folder, base, tasks, arms or ())


@app.command()
def trace_starts(
    tasks: Annotated[int, typer.Option(min=1, help="Development tasks.")] = 4,
    folder: StartsFolder = STARTS,
    base: BaseName = "whisper-tiny.en",
    root: Root = Path(),
) -> None:
    """Measure the loss of development tasks after few and many steps, and print it by arm."""
    from experiments.starts import STEPS, trace
    from experiments.starts_results import curve

    trace(root, folder, base, tasks)
    typer.echo(curve(folder, STEPS).to_string(index=False))


@app.command()
def adapt_starts(
    shots: Annotated[int, typer.Option(min=1, help="Recordings of each task to adapt to.")] = 5,
    tasks: Annotated[int, typer.Option(min=1, help="Test tasks.")] = 30,
    arms: Only = None,
    folder: StartsFolder = STARTS,
    base: BaseName = "whisper-tiny.en",
    root: Root = Path(),
) -> None:
    """Adapt every arm to a few recordings of each test task and transcribe others."""
    from experiments.starts import evaluate

    evaluate(root, folder, base, shots, tasks, arms or ())


@app.command()
def starts(folder: StartsFolder = STARTS) -> None:
    """Print the table of all starts: WER in %, and errors and loss relative to joint training, with 95% intervals."""
    from experiments.starts_results import table as tabulate

    typer.echo(tabulate(folder).to_string(index=False))


def _precision(bfloat16: bool) -> Literal["float32", "bfloat16"]:
    return "bfloat16" if bfloat16 else "float32"


@app.command()
def table(root: Root = Path()) -> None:
    """Print the tables of all arms that have run: accuracy in % with 95% intervals, and error relative to the baseline."""
    from experiments.augmentation import tabulate
    from metavox.params import load_params

    for name, rows in tabulate(load_params(root / "params.yaml", complete=True), root).items():
        typer.echo(f"{name}\n{rows.to_string(index=False)}\n")


@app.command()
def probes(root: Root = Path()) -> None:
    """Print the table of all encoders from `unlabelled`: accuracy in % with 95% intervals, and gain over random weights."""
    from experiments.pretraining import table as tabulate

    typer.echo(tabulate(root).to_string(index=False))


if __name__ == "__main__":
    threads.begin()
    disable_telemetry()
    app(prog_name="python -m experiments")
