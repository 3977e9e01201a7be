"""`metavox subtitle`: subtitles of a video or a recording."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from metavox.cli.decoding import Beam, HotWord, HotWordsFile, HotWordWeight, ModelFile, ModelWeight, TextsFile
from metavox.cli.options import Base, Context, Deltas, Language, output
from metavox.cli.transcribe import Channel
from metavox.errors import UserError


def subtitle(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video or a recording.")],
    form: Annotated[
        Literal["srt", "vtt", "ass"],
        typer.Option("--format", help="SubRip, WebVTT or Advanced SubStation Alpha."),
    ] = "srt",
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="The file to write; by default beside the video.", callback=output),
    ] = None,
    mux: Annotated[
        Path | None,
        typer.Option(
            "--mux",
            dir_okay=False,
            help="Also write a copy of the video with the subtitles (.mkv).",
            callback=output,
        ),
    ] = None,
    delta: Deltas = [],  # noqa: B006
    base: Base = None,
    language: Language = "",
    context: Context = "auto",
    channel: Channel = "mix",
    width: Annotated[
        int, typer.Option(min=8, help="Characters on a line; a Chinese one counts as two.")
    ] = 42,
    lines: Annotated[int, typer.Option(min=1, max=3, help="Lines that are shown at once.")] = 2,
    reading_speed: Annotated[float, typer.Option(min=5, help="Characters that are read in a second.")] = 20.0,
    beam: Beam = 0,
    hot_word: HotWord = [],  # noqa: B006
    hot_words: HotWordsFile = None,
    hot_word_weight: HotWordWeight = 0.3,
    language_model: ModelFile = None,
    texts: TextsFile = None,
    language_model_weight: ModelWeight = 0.05,
) -> None:
    """Write subtitles: two lines of 42 characters, broken at phrases and pauses, shown as long as reading takes."""
    from dataclasses import replace

    from metavox.cli.decoding import search_of
    from metavox.cli.recordings import transcribed
    from metavox.cli.sessions import opened, with_deltas
    from metavox.files import check_output, written_aside
    from metavox.recognisers.delta import load_delta
    from metavox.recognition.cues import CueConfig, cues
    from metavox.recognition.subtitles import CONTAINERS, as_srt, subtitles
    from metavox.recognition.subtitles import mux as write_copy

    target = out or video.with_suffix(f".{form}")
    if mux and mux.suffix.lower() not in CONTAINERS:
        raise UserError(
            f"--mux {mux}: expected the name of a Matroska file, such as {video.stem}.subtitled.mkv"
        )
    for file in (target, mux):
        if file:
            check_output(file, [video])
    search = search_of(
        beam, hot_word, hot_words, hot_word_weight, language_model, texts, language_model_weight
    )
    deltas = [load_delta(folder) for folder in delta]
    plain = opened(base, language, deltas=deltas)
    options = replace(plain.options, context=context, word_times=True, beam=search.beam, guide=search.guide)
    session = with_deltas(replace(plain, options=options), delta, deltas)
    transcript = transcribed(session, video, channel)
    config = CueConfig(width=width, lines=lines, cells_per_s=reading_speed)
    with written_aside(target) as aside:
        aside.write_text(subtitles(transcript, form, config), encoding="utf-8")
    if mux:
        write_copy(video, as_srt(transcript, config), mux, transcript.language)
    count = len(cues(transcript, config))
    speech = f", {transcript.speech_s:.0f} s of speech" if transcript.speech_s is not None else ""
    typer.echo(
        f"{target}: {count} cues in {transcript.duration_s:.0f} s{speech}" + (f"; {mux}" if mux else "")
    )
    if not count:
        print(f"metavox: {video}: no speech was found, so there is nothing to show", file=sys.stderr)
