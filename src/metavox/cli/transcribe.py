"""`metavox score`, `transcribe`: what is heard in recordings, and how much of it is right."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from metavox.cli.console import table
from metavox.cli.options import Base, Context, Deltas, Json, Language, Manifest, output
from metavox.errors import UserError
from metavox.files import check_output, write_json, written_aside

if TYPE_CHECKING:
    from metavox.metrics.before_after import Figures
    from metavox.recognisers.transcript import Transcript

TestTimeMode = Annotated[
    Literal["off", "episodic", "continual"],
    typer.Option(
        help="Let each recording move the model before it is recognised, alone or on from the last one; conformer only."
    ),
]


def _checked_channel(text: str) -> str:
    """Refuses a channel that cannot be meant before anything is loaded."""
    from metavox.audio.channels import channel_named

    try:
        channel_named(text)
    except UserError as error:
        raise UserError(f"--channel {error}") from error
    return text


def score(
    manifest: Manifest,
    delta: Deltas = [],  # noqa: B006
    base: Base = None,
    language: Language = "",
    context: Context = "auto",
    json_file: Json = None,
    test_time: TestTimeMode = "off",
) -> None:
    """Word and character errors, and accuracy on enrolled words, before and after deltas and test-time adaptation."""
    from dataclasses import replace

    from metavox.cli.manifests import labelled, languages_of, read
    from metavox.cli.sessions import hear_all, moving, opened, with_deltas
    from metavox.metrics.before_after import before_and_after
    from metavox.recognisers.delta import load_delta

    if json_file:
        check_output(json_file, [manifest])
    rows = labelled(manifest)
    deltas = [load_delta(folder) for folder in delta]
    plain = opened(base, language, languages_of(rows), deltas)
    plain = replace(plain, options=replace(plain.options, context=context))
    adapted = with_deltas(plain, delta, deltas)
    ears = {"before": plain, **({"after": moving(adapted, test_time)} if delta or test_time != "off" else {})}
    said = read(rows, manifest, plain.rate)
    heard = {
        when: [one.text for one in hear_all(session, said.samples, f"listening, {when}")]
        for when, session in ears.items()
    }
    vocabulary = adapted.words
    spoken = [language or one for one in said.languages]
    figures = before_and_after(said.texts, heard, vocabulary, spoken)
    by_language = {}
    if len(set(said.languages)) > 1:
        for code in sorted(set(said.languages)):
            chosen = [i for i, one in enumerate(said.languages) if one == code]
            part = {when: [found[i] for i in chosen] for when, found in heard.items()}
            texts, codes = [said.texts[i] for i in chosen], [spoken[i] for i in chosen]
            by_language[code or "not named"] = before_and_after(texts, part, languages=codes)
    spec = plain.recogniser.spec
    _show(figures, by_language, f"{spec.name}, " + (", ".join(map(str, delta)) if delta else "no delta"))
    if json_file:
        about = {
            "base": spec.name,
            "model": spec.digest,
            "deltas": list(map(str, delta)),
            "test_time": test_time,
            "context": context,
            "language": plain.options.language,
        }
        languages = {code: one.as_dict() for code, one in by_language.items()}
        write_json(
            json_file, {**about, **figures.as_dict(), **({"languages": languages} if languages else {})}
        )


def transcribe(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sound or video files.")],
    form: Annotated[
        Literal["text", "json", "verbose_json", "srt", "vtt"],
        typer.Option("--format", help="How to write it."),
    ] = "text",
    delta: Deltas = [],  # noqa: B006
    base: Base = None,
    language: Language = "",
    context: Context = "auto",
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write it here, not to the screen.", callback=output)
    ] = None,
    test_time: TestTimeMode = "off",
    channel: Annotated[
        str,
        typer.Option(
            metavar="mix|left|right|NUMBER",
            help="Mix all channels of a recording, or transcribe one of them, counted from 1.",
            callback=_checked_channel,
        ),
    ] = "mix",
) -> None:
    """What is said in recordings."""
    from dataclasses import replace

    from metavox.audio.channels import channel_named
    from metavox.audio.read import read_recording
    from metavox.cli.sessions import moving, opened, with_deltas
    from metavox.progress import track
    from metavox.recognisers.delta import load_delta
    from metavox.recognition.formats import TIMED, written

    if form in ("srt", "vtt") and len(files) > 1:
        raise UserError(f"--format {form} with {len(files)} files; expected one file, or another --format")
    if out:
        check_output(out, files)
    deltas = [load_delta(folder) for folder in delta]
    plain = opened(base, language, deltas=deltas)
    options = replace(plain.options, context=context, word_times=form in TIMED)
    session = moving(with_deltas(replace(plain, options=options), delta, deltas), test_time)
    heard: dict[str, Transcript] = {}
    failed = 0
    for path in track(files, "listening", unit="files"):
        try:
            recording = read_recording(path, plain.rate, channel_named(channel))
            if recording.warning:
                how = "--channel left or --channel right transcribes one of them"
                print(f"metavox: {path}: {recording.warning}; {how}", file=sys.stderr)
            heard[str(path)] = session.transcribe(recording.samples)
        except UserError as error:
            if len(files) == 1:
                raise
            failed += 1
            print(f"metavox: {error}", file=sys.stderr)
    text = written(heard, form, alone=len(files) == 1)
    if out:
        with written_aside(out) as aside:
            aside.write_text(text, encoding="utf-8", errors="backslashreplace")
    else:
        typer.echo(text, nl=False)
    if failed:
        raise UserError(f"{failed} of {len(files)} files could not be read; the others are written")


def _show(figures: "Figures", by_language: "dict[str, Figures]", title: str) -> None:
    columns = list(figures.rates["wer"])
    gone = ["errors gone %"] if figures.gone else []

    def line(shown: str, one: "Figures", name: str) -> tuple[str, ...]:
        last = [str(one.gone[name]) if name in one.gone else ""] if gone else []
        return (shown, *(str(one.rates[name][when]) for when in columns), *last)

    lines = [line(f"{name} %", figures, name) for name in figures.shown]
    table(f"{figures.recordings} recordings, {title}", ("", *columns, *gone), lines)
    if figures.enrolled:
        typer.echo(f"accuracy, precision, recall, f1: {figures.enrolled} recordings whose text is enrolled")
    for note in figures.notes:
        typer.echo(note)
    if by_language:
        lines = [
            line(f"{code}, {one.recordings} recordings, {name} %", one, name)
            for code, one in by_language.items()
            for name in one.shown
        ]
        table("by language", ("", *columns, *gone), lines)
