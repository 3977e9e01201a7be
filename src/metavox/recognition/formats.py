"""Writes transcripts as text, JSON and server-sent events; subtitles are written by `subtitles`."""

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Literal, get_args

from metavox.recognisers.transcript import Segment, Transcript
from metavox.recognition.hot_words import HotWords
from metavox.recognition.subtitles import SUBTITLE_FORMATS, subtitles

Format = Literal["text", "json", "verbose_json", "srt", "vtt", "ass"]
FORMATS: tuple[str, ...] = get_args(Format)
SEEK_PER_S = 100  # units of `seek`
MIN_CONFIDENCE = 1e-6  # for its logarithm
TIMED: tuple[str, ...] = ("verbose_json", *SUBTITLE_FORMATS)  # formats that use word times


def written(
    transcripts: Mapping[str, Transcript], form: Format, alone: bool, hot_words: HotWords | None = None
) -> str:
    """Transcripts by file name as one text; `alone` leaves the file name out. JSON says which of `hot_words` were found."""
    if form in ("json", "verbose_json"):
        write = as_json if form == "json" else as_verbose_json
        values = [
            {
                **({} if alone else {"file": name}),
                **write(transcript),
                **({"hot_words": hot_words.applied(transcript.text)} if hot_words else {}),
            }
            for name, transcript in transcripts.items()
        ]
        return json.dumps(values[0] if alone else values, indent=2, ensure_ascii=False) + "\n"
    if form == "srt" or form == "vtt" or form == "ass":
        return "".join(subtitles(transcript, form) for transcript in transcripts.values())
    return "".join(
        line + "\n" if alone else f"{name}: {line}\n"
        for name, transcript in transcripts.items()
        for line in _turns(transcript)
    )


def _turns(transcript: Transcript) -> Iterator[str]:
    """The text on one line, or, if speakers are told apart, each turn on a line that names its speaker."""
    speakers = [segment.speaker for segment in transcript.segments]
    if not any(speakers):
        yield transcript.text
        return
    for speaker, turn in groupby(transcript.segments, lambda segment: segment.speaker):
        text = " ".join(segment.text for segment in turn)
        yield f"[{speaker}] {text}"


def as_json(transcript: Transcript) -> dict[str, object]:
    return {"text": transcript.text}


def as_verbose_json(transcript: Transcript, language: str = "", words: bool = True) -> dict[str, object]:
    """OpenAI's `verbose_json`; `words` says whether to include word times.

    The answer's `language` is the request's `language`, otherwise the transcript's, otherwise "unknown",
    because clients expect a non-empty string. Of OpenAI's fields of a segment, `tokens` is empty and
    `no_speech_prob` is 0, since recognisers do not report them; `avg_logprob` is the logarithm of our
    confidence. `speech` is how many seconds were taken as speech.
    """
    segments = [segment for segment in transcript.segments if segment.text]
    out: dict[str, object] = {
        "task": "transcribe",
        "language": language or transcript.language or "unknown",
        "duration": round(transcript.duration_s, 3),
        **({} if transcript.speech_s is None else {"speech": round(transcript.speech_s, 3)}),
        "text": transcript.text,
        "segments": [_verbose(i, segment) for i, segment in enumerate(segments)],
    }
    if words:
        out["words"] = [
            {
                "word": word.text,
                "start": round(word.start_s, 3),
                "end": round(word.end_s, 3),
                "confidence": round(word.confidence, 4),
            }
            for segment in segments
            for word in segment.words
        ]
    return out


def _verbose(index: int, segment: Segment) -> dict[str, object]:
    encoded = segment.text.encode()
    return {
        "id": index,
        "seek": int(segment.start_s * SEEK_PER_S),
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(math.log(max(segment.confidence, MIN_CONFIDENCE)), 4),
        "compression_ratio": round(len(encoded) / len(zlib.compress(encoded)), 4),
        "no_speech_prob": 0.0,
        "confidence": round(segment.confidence, 4),
        **({"speaker": segment.speaker} if segment.speaker else {}),
    }


def as_events(transcript: Transcript) -> Iterator[str]:
    """OpenAI's server-sent events of a transcription: one delta for each segment, then the complete text."""
    separator = ""
    for segment in transcript.segments:
        if segment.text:
            yield _event("transcript.text.delta", delta=separator + segment.text)
            separator = " "
    yield _event("transcript.text.done", text=transcript.text)


def _event(kind: str, **fields: str) -> str:
    return f"data: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n"
