"""`metavox augment`: environments of a user's own, learned from noise or recordings of a site, and heard."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metavox.cli.options import output

app = typer.Typer(no_args_is_help=True, help="Environments learned from your own site: rooms, lines, noise.")
Seed = Annotated[int, typer.Option(min=0)]


@app.command()
def learn(
    path: Annotated[Path, typer.Argument(help="A recording, or a folder of them; about ten minutes.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder to make.", callback=output)],
    kind: Annotated[
        Literal["auto", "noise", "recordings"],
        typer.Option(help="noise: nobody speaks in it; recordings: speech as it is heard at the site."),
    ] = "auto",
    clean: Annotated[
        Path | None, typer.Option(help="Clean speech, a file or a folder; without it espeak-ng speaks.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Without it that of the parameters.")] = None,
    seed: Seed = 17,
    params: Annotated[Path | None, typer.Option(help="A params.yaml: its features, its augment.")] = None,
) -> None:
    """Learn environments from a site's noise or recordings; metatrain.environment names them for training."""

    from metavox.environments import learn as run
    from metavox.errors import UserError
    from metavox.params import Params, load_params

    if out.is_dir() and any(out.iterdir()) and not (out / "generator.safetensors").is_file():
        raise UserError(f"--out {out}: holds something that is no environment; choose a new folder")
    chosen = load_params(params) if params else Params()
    features = chosen.features
    if features.kind != "mel":
        raise UserError(f"{params}: features.kind = {features.kind}; environments are of log-mels")
    how = chosen.augment if steps is None else chosen.augment.model_copy(update={"steps": steps})
    learned = run(path, out, kind, clean, features, how, seed, lambda line: typer.echo(line, err=True))
    from metavox.reports.environments import verdict

    for line in verdict(learned.evaluation):
        typer.echo(line)
    typer.echo(
        f"{out}: to hear it, open {out / 'report.html'} or metavox augment apply FILE --environment {out}"
    )
    typer.echo(f"to train in it, set in params.yaml metatrain.environment: {out} and environment_share: 0.3")


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(help="A recording.")],
    environment: Annotated[Path, typer.Option(help="A folder that `augment learn` or the pipeline made.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The WAV file to write.", callback=output)],
    intensity: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="0 leaves it as it is, 1 is the whole environment.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Which of the environments.")] = 0,
) -> None:
    """What a recording would sound like there."""
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
    heard = move(generator, samples, latent, (intensity,), seed).samples[0]
    with written_aside(out) as aside:
        soundfile.write(aside, heard, rate, format="WAV", subtype="PCM_16")
    typer.echo(f"{out}: {len(heard) / rate:.1f} s at intensity {intensity:g}, environment {seed}")
