"""`metavox translate`: speech in one language to text, or speech, in another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metavox.cli.options import Base, Context, Deltas, Language, output
from metavox.errors import UserError

if TYPE_CHECKING:
    from metavox.session import Session

ENGLISH = "en"


def translate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio or video files.")],
    delta: Deltas = [],  # noqa: B006
    base: Base = None,
    language: Language = "",
    context: Context = "auto",
    speak: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Also write the translation as speech of espeak-ng to this file.",
            callback=output,
        ),
    ] = None,
) -> None:
    """Translate speech: into English with a multilingual Whisper, or as a delta was taught to.

    A delta translates if it was adapted to recordings whose texts are in another language.
    """
    from dataclasses import replace

    from metavox.cli.recordings import transcribed
    from metavox.cli.sessions import opened, with_deltas
    from metavox.recognisers.delta import load_delta

    if speak and len(files) > 1:
        raise UserError(f"--speak with {len(files)} files; expected one file")
    if speak and _format(speak) not in ("WAV", "FLAC", "OGG", "MP3"):
        raise UserError(f"--speak {speak}: expected a name that ends in .wav, .flac, .ogg or .mp3")
    deltas = [load_delta(folder) for folder in delta]
    taught = any(one.changes_recogniser for one in deltas)
    plain = opened(base, "" if taught else language, deltas=deltas)
    options = replace(plain.options, context=context, task="transcribe" if taught else "translate")
    session = with_deltas(replace(plain, options=options), delta, deltas)
    _check(session, taught)
    for path in files:
        transcript = transcribed(session, path)
        typer.echo(transcript.text if len(files) == 1 else f"{path}: {transcript.text}")
        if speak:
            written = session.language or ENGLISH if taught else ENGLISH
            _speak(transcript.text, written, speak)


def _format(out: Path) -> str:
    return (out.suffix.lstrip(".") or "wav").upper()


def _check(session: "Session", taught: bool) -> None:
    spec = session.recogniser.spec
    if taught or (spec.kind == "whisper" and len(spec.languages) > 1):
        return
    raise UserError(
        f"{spec.name} does not translate; choose a multilingual Whisper with --base, or a delta that was adapted to "
        "recordings with texts in the other language"
    )


def _speak(text: str, language: str, out: Path) -> None:
    """Write a text as speech. Raises UserError for a language that espeak-ng does not speak."""
    import io

    import soundfile

    from metavox.files import written_aside
    from metavox.sources.synthetic import espeak
    from metavox.sources.synthetic.espeak import SynthesisConfig, Text
    from metavox.sources.synthetic.languages import find_language

    if not text.strip():
        raise UserError(f"--speak {out}: there is no text to say")
    spoken = Text(text, find_language(language), "sentence")
    planned = espeak.plan([spoken], SynthesisConfig(renditions=1, rate=(150, 160)))
    recordings = list(espeak.recordings(planned, unspoken=[]))
    if not recordings:
        raise UserError(f"--speak {out}: espeak-ng makes no sound for the translation")
    samples, rate = soundfile.read(io.BytesIO(recordings[0].data))
    with written_aside(out) as aside:
        soundfile.write(aside, samples, rate, format=_format(out))
