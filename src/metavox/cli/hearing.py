"""`metavox score`, `transcribe`: what is heard in recordings, and how much of it is right."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from metavox.cli.labelled import clips, labelled
from metavox.cli.options import Deltas, Json, Manifest, Model
from metavox.cli.screen import table, track
from metavox.errors import UserError
from metavox.files import write_json, written_aside

if TYPE_CHECKING:
    from metavox.recognize.transcribe import Transcript

TestTimeMode = Annotated[
    Literal["off", "episodic", "continual"],
    typer.Option(
        help="Let each recording move the model before it is recognised, alone or on from the last one."
    ),
]


def score(
    manifest: Manifest,
    delta: Deltas = [],  # noqa: B006
    model: Model = None,
    json_file: Json = None,
    test_time: TestTimeMode = "off",
) -> None:
    """Word and character errors, and accuracy on enrolled words, before and after deltas and test-time adaptation."""
    from metavox.cli.listening import before_and_after, load
    from metavox.corpus.manifest import read_manifest

    rows = labelled(read_manifest(manifest), manifest)
    base = load(model)
    ears = {"before": base}
    if delta or test_time != "off":
        ears["after"] = base.with_deltas(delta).moving(test_time)
    texts, _, samples = clips(rows, manifest, base)
    heard = {
        when: [one.hear(clip).text for clip in track(samples, f"listening, {when}")]
        for when, one in ears.items()
    }
    vocabulary = ears["after"].words if "after" in ears else ()
    figures = before_and_after(texts, heard, vocabulary)
    title = f"{len(texts)} recordings" + (f", {', '.join(map(str, delta))}" if delta else ", no delta")
    lines = [(f"{name} %", *(str(by[when]) for when in ears)) for name, by in figures.rates.items()]
    table(title, ("", *ears), lines)
    if vocabulary:
        typer.echo(f"accuracy, precision, recall, f1: {figures.enrolled} recordings whose text is enrolled")
    if json_file:
        about = {
            "model": base.digest,
            "deltas": list(map(str, delta)),
            "recordings": len(texts),
            "test_time": test_time,
        }
        write_json(json_file, {**about, **figures.as_dict()})


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sound or video files.")],
    form: Annotated[
        Literal["text", "json", "verbose_json", "srt", "vtt"],
        typer.Option("--format", help="How to write it."),
    ] = "text",
    delta: Deltas = [],  # noqa: B006
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write it here, not to the screen.")
    ] = None,
    test_time: TestTimeMode = "off",
) -> None:
    """What is said in recordings."""
    from metavox.audio.read import read_audio
    from metavox.cli.listening import load, written

    if form in ("srt", "vtt") and len(files) > 1:
        raise UserError(f"--format {form} with {len(files)} files; expected one file, or another --format")
    base = load(model)
    listener = base.with_deltas(delta).moving(test_time)
    heard: dict[str, Transcript] = {}
    failed = 0
    for path in files:
        try:
            heard[str(path)] = listener.hear(read_audio(path, base.rate))
        except UserError as error:
            if len(files) == 1:
                raise
            failed += 1
            print(f"metavox: {error}", file=sys.stderr)
    text = written(heard, form, alone=len(files) == 1)
    if out:
        with written_aside(out) as aside:
            aside.write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)
    if failed:
        raise UserError(f"{failed} of {len(files)} files could not be read; the others are written")
