"""`metavox augment`: learn environments from a site's noise or recordings, and apply them to recordings."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metavox.cli.options import output

app = typer.Typer(no_args_is_help=True, help="Learn environments (rooms, lines, noise) from your own site.")
Seed = Annotated[int, typer.Option(min=0)]


@app.command()
def learn(
    path: Annotated[
        Path, typer.Argument(help="A recording or a folder of recordings, about ten minutes in all.")
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder to write.", callback=output)],
    kind: Annotated[
        Literal["auto", "noise", "recordings"],
        typer.Option(help="noise: no one speaks in it; recordings: speech recorded at the site."),
    ] = "auto",
    clean: Annotated[
        Path | None,
        typer.Option(help="A file or folder of clean speech; by default synthesised by espeak-ng."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps; by default augment.steps of the parameters.")
    ] = None,
    seed: Seed = 17,
    params: Annotated[
        Path | None, typer.Option(help="A params.yaml, for its sections features and augment.")
    ] = None,
) -> None:
    """Learn environments from a site's noise or recordings. To train with them, set metatrain.environment."""
    from metavox.environments import learn as run
    from metavox.errors import UserError
    from metavox.params import Params, load_params

    if out.is_dir() and any(out.iterdir()) and not (out / "generator.safetensors").is_file():
        raise UserError(f"--out {out}: exists and is not an environment; choose a new folder")
    values = load_params(params) if params else Params()
    features = values.features
    if features.kind != "mel":
        raise UserError(f"{params}: features.kind = {features.kind}; environments need mel, for log-mels")
    config = values.augment if steps is None else values.augment.model_copy(update={"steps": steps})
    learned = run(path, out, kind, clean, features, config, seed, lambda line: typer.echo(line, err=True))
    from metavox.reports.environments import verdict

    for line in verdict(learned.evaluation):
        typer.echo(line)
    typer.echo(
        f"{out}: to hear it, open {out / 'report.html'} or run metavox augment apply FILE --environment {out}"
    )
    typer.echo(
        f"to train with it, set metatrain.environment: {out} and metatrain.environment_share: 0.3 in params.yaml"
    )


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    environment: Annotated[
        Path, typer.Option(help="A folder that `metavox augment learn` or the pipeline made.")
    ],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The WAV file to write.", callback=output)],
    intensity: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="0 leaves the recording unchanged, 1 applies the environment fully."
        ),
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Selects one of the environments.")] = 0,
) -> None:
    """Apply an environment to a recording."""
    import soundfile
    import torch

    from metavox.audio.read import read_audio
    from metavox.files import check_output, written_aside
    from metavox.reports.environments import move
    from metavox.training.gan import load_generator
    from metavox.training.gan.monitor import latents

    check_output(out, [file])
    generator = load_generator(environment)
    rate = generator.config.features.sample_rate_hz
    samples = read_audio(file, rate)
    latent = latents(generator, 1, torch.Generator().manual_seed(seed))[0]
    moved = move(generator, samples, latent, (intensity,), seed).samples[0]
    with written_aside(out) as aside:
        soundfile.write(aside, moved, rate, format="WAV", subtype="PCM_16")
    typer.echo(f"{out}: {len(moved) / rate:.1f} s at intensity {intensity:g}, environment {seed}")
