"""`metavox transcribe` and `metavox score`: transcribe recordings, and measure error rates."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from metavox.cli.console import table
from metavox.cli.decoding import Beam, HotWord, HotWordsFile, HotWordWeight, ModelFile, ModelWeight, TextsFile
from metavox.cli.options import Base, Context, Deltas, Json, Language, Manifest, output
from metavox.errors import UserError
from metavox.files import check_output, write_json, written_aside

if TYPE_CHECKING:
    from metavox.cli.sessions import AdaptingSession
    from metavox.metrics.before_after import Figures
    from metavox.recognisers.transcript import Transcript
    from metavox.session import Session

TestTimeMode = Annotated[
    Literal["off", "episodic", "continual"],
    typer.Option(
        help="Adapt the model to each recording before recognising it: episodic starts from the base each time, continual "
        "from the last recording. Conformer only."
    ),
]


def _checked_channel(text: str) -> str:
    """Callback of --channel, which refuses an invalid value before anything is loaded."""
    from metavox.audio.channels import channel_named
    from metavox.cli.recordings import SPLIT

    try:
        if text != SPLIT:
            channel_named(text)
    except UserError as error:
        raise UserError(f"--channel {error}") from error
    return text


Channel = Annotated[
    str,
    typer.Option(
        "--channel",
        "--channels",
        metavar="mix|split|left|right|NUMBER",
        help="Mix all channels of a recording, transcribe each apart with its number as the speaker, or one of them, "
        "counted from 1.",
        callback=_checked_channel,
    ),
]


def score(
    manifest: Manifest,
    delta: Deltas = [],  # noqa: B006
    base: Base = None,
    language: Language = "",
    context: Context = "auto",
    json_file: Json = None,
    test_time: TestTimeMode = "off",
) -> None:
    """Measure error rates and accuracy on enrolled words, before and after deltas and test-time adaptation."""
    from dataclasses import replace

    from metavox.cli.manifests import labelled, languages_of, read
    from metavox.cli.sessions import opened, transcribe_all, with_deltas, with_test_time
    from metavox.metrics.before_after import before_and_after
    from metavox.recognisers.delta import load_delta

    if json_file:
        check_output(json_file, [manifest])
    rows = labelled(manifest)
    deltas = [load_delta(folder) for folder in delta]
    plain = opened(base, language, languages_of(rows), deltas)
    plain = replace(plain, options=replace(plain.options, context=context))
    adapted = with_deltas(plain, delta, deltas)
    sessions: dict[str, Session | AdaptingSession] = {"before": plain}
    if delta or test_time != "off":
        sessions["after"] = with_test_time(adapted, test_time)
    recordings = read(rows, manifest, plain.rate)
    texts = {
        when: [
            transcript.text
            for transcript in transcribe_all(session, recordings.samples, f"transcribing, {when}")
        ]
        for when, session in sessions.items()
    }
    spoken = [language or code for code in recordings.languages]
    figures = before_and_after(recordings.texts, texts, adapted.words, spoken)
    by_language = {}
    if len(set(recordings.languages)) > 1:
        for code in sorted(set(recordings.languages)):
            indices = [i for i, row_code in enumerate(recordings.languages) if row_code == code]
            by_language[code or "not named"] = before_and_after(
                [recordings.texts[i] for i in indices],
                {when: [transcripts[i] for i in indices] for when, transcripts in texts.items()},
                languages=[spoken[i] for i in indices],
            )
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
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio or video files.")],
    form: Annotated[
        Literal["text", "json", "verbose_json", "srt", "vtt", "ass"],
        typer.Option("--format", help="The output format."),
    ] = "text",
    delta: Deltas = [],  # noqa: B006
    base: Base = None,
    language: Language = "",
    context: Context = "auto",
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="The file to write; by default standard output.", callback=output),
    ] = None,
    test_time: TestTimeMode = "off",
    channel: Channel = "mix",
    beam: Beam = 0,
    hot_word: HotWord = [],  # noqa: B006
    hot_words: HotWordsFile = None,
    hot_word_weight: HotWordWeight = 0.3,
    language_model: ModelFile = None,
    texts: TextsFile = None,
    language_model_weight: ModelWeight = 0.05,
) -> None:
    """Transcribe recordings of any length."""
    from dataclasses import replace

    from metavox.cli.decoding import search_of
    from metavox.cli.recordings import transcribed
    from metavox.cli.sessions import opened, with_deltas, with_test_time
    from metavox.progress import track
    from metavox.recognisers.delta import load_delta
    from metavox.recognition.formats import TIMED, written
    from metavox.recognition.subtitles import SUBTITLE_FORMATS

    if form in SUBTITLE_FORMATS and len(files) > 1:
        raise UserError(f"--format {form} with {len(files)} files; expected one file, or another --format")
    if out:
        check_output(out, files)
    search = search_of(
        beam, hot_word, hot_words, hot_word_weight, language_model, texts, language_model_weight
    )
    deltas = [load_delta(folder) for folder in delta]
    plain = opened(base, language, deltas=deltas)
    options = replace(
        plain.options, context=context, word_times=form in TIMED, beam=search.beam, guide=search.guide
    )
    session = with_test_time(with_deltas(replace(plain, options=options), delta, deltas), test_time)
    transcripts: dict[str, Transcript] = {}
    failures = 0
    for path in track(files, "transcribing", unit="files") if len(files) > 1 else files:
        try:
            transcripts[str(path)] = transcribed(session, path, channel)
        except UserError as error:
            if len(files) == 1:
                raise
            failures += 1
            print(f"metavox: {error}", file=sys.stderr)
    text = written(transcripts, form, alone=len(files) == 1, hot_words=search.hot_words)
    if out:
        with written_aside(out) as aside:
            aside.write_text(text, encoding="utf-8", errors="backslashreplace")
    else:
        typer.echo(text, nl=False)
    if failures:
        raise UserError(f"{failures} of {len(files)} files could not be read; the output holds the others")


def _show(figures: "Figures", by_language: "dict[str, Figures]", title: str) -> None:
    columns = list(figures.rates["wer"])
    reduction = ["error reduction %"] if figures.error_reduction else []

    def line(head: str, one: "Figures", name: str) -> tuple[str, ...]:
        last = [str(one.error_reduction[name]) if name in one.error_reduction else ""] if reduction else []
        return (head, *(str(one.rates[name][when]) for when in columns), *last)

    lines = [line(f"{name} %", figures, name) for name in figures.shown]
    table(f"{figures.recordings} recordings, {title}", ("", *columns, *reduction), lines)
    if figures.enrolled:
        typer.echo(
            f"accuracy, precision, recall, f1: over {figures.enrolled} recordings whose text is enrolled"
        )
    for note in figures.notes:
        typer.echo(note)
    if by_language:
        lines = [
            line(f"{code}, {one.recordings} recordings, {name} %", one, name)
            for code, one in by_language.items()
            for name in one.shown
        ]
        table("by language", ("", *columns, *reduction), lines)
