"""Transcribe a file for a command, block by block where the session allows it."""

import sys
from pathlib import Path

from metavox.audio.channels import channel_named
from metavox.audio.read import count_channels, read_recording, stream_recording
from metavox.cli.sessions import AdaptingSession
from metavox.progress import bar
from metavox.recognisers.transcript import Segment, Transcript
from metavox.recognition.long import by_channel
from metavox.session import Session

SPLIT = "split"


def transcribed(session: Session | AdaptingSession, path: Path, channel: str = "mix") -> Transcript:
    """The transcript of a file: of one channel, of a mix of all, or of each apart. Raises UserError for what is no audio."""
    if channel != SPLIT:
        return _of_channel(session, path, channel_named(channel))
    return by_channel([_of_channel(session, path, i + 1) for i in range(count_channels(path))])


def _of_channel(session: Session | AdaptingSession, path: Path, channel: int | None) -> Transcript:
    if isinstance(session, AdaptingSession) or session.vocabulary:
        rate = session.session.rate if isinstance(session, AdaptingSession) else session.rate
        recording = read_recording(path, rate, channel)
        _warn(path, recording.speakers_correlation)
        return session.transcribe(recording.samples)
    long, segments = session.transcription(), list[Segment]()
    with bar(f"transcribing {path.name}", unit="seconds") as progress:

        def consume(block: "object") -> None:
            segments.extend(long.push(block))  # type: ignore[arg-type]
            progress.advance(round(long.duration_s) - progress.done)

        correlation = stream_recording(path, consume, session.rate, channel)
        segments += long.end()
    _warn(path, correlation)
    transcript = long.transcript(segments)
    if transcript.language:
        return transcript
    return Transcript(
        transcript.segments,
        transcript.duration_s,
        session.options.language or session.language,
        transcript.speech_s,
    )


def _warn(path: Path, speakers_correlation: float | None) -> None:
    if speakers_correlation is not None:
        print(
            f"metavox: {path}: its two channels differ (correlation {speakers_correlation:.2f}), as in a call with one "
            "speaker a channel; they were mixed; --channel left or --channel right transcribes one of them, --channel "
            "split each",
            file=sys.stderr,
        )
