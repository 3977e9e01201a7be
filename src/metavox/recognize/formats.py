"""A transcript as text, JSON, SubRip or WebVTT."""

import html
import json
from collections.abc import Mapping
from typing import Literal, get_args

from metavox.recognisers.transcript import Transcript

Format = Literal["text", "json", "verbose_json", "srt", "vtt"]
FORMATS: tuple[str, ...] = get_args(Format)
TIMED: tuple[str, ...] = ("verbose_json", "srt", "vtt")  # that the times of words make better


def written(transcripts: Mapping[str, Transcript], form: Format, alone: bool) -> str:
    """Transcripts by file as one text; `alone` leaves the file's name out."""
    if form in ("json", "verbose_json"):
        write = as_json if form == "json" else as_verbose_json
        values = [{**({} if alone else {"file": name}), **write(one)} for name, one in transcripts.items()]
        return json.dumps(values[0] if alone else values, indent=2, ensure_ascii=False) + "\n"
    if form in ("srt", "vtt"):
        write_cues = as_srt if form == "srt" else as_vtt
        return "".join(map(write_cues, transcripts.values()))
    return "".join(one.text + "\n" if alone else f"{name}: {one.text}\n" for name, one in transcripts.items())


def as_json(transcript: Transcript) -> dict[str, object]:
    return {"text": transcript.text}


def as_verbose_json(transcript: Transcript, language: str = "") -> dict[str, object]:
    """The fields that OpenAI-compatible clients read from `verbose_json`; `language` is that of the request."""
    return {
        "task": "transcribe",
        "language": language or transcript.language,
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text,
        "segments": [
            {
                "id": i, "start": round(s.start_s, 3), "end": round(s.end_s, 3), "text": s.text,
                "confidence": round(s.confidence, 4),
            }
            for i, s in enumerate(transcript.segments)
        ],
        "words": [
            {"word": w.text, "start": round(w.start_s, 3), "end": round(w.end_s, 3), "confidence": round(w.confidence, 4)}
            for s in transcript.segments
            for w in s.words
        ],
    }  # fmt: skip


def as_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, comma before the milliseconds."""
    cues = [s for s in transcript.segments if s.text]
    return "".join(
        f"{i}\n{_stamp(s.start_s, ',')} --> {_stamp(s.end_s, ',')}\n{_line(s.text)}\n\n"
        for i, s in enumerate(cues, 1)
    )


def as_vtt(transcript: Transcript) -> str:
    cues = [s for s in transcript.segments if s.text]
    return "WEBVTT\n\n" + "".join(
        f"{_stamp(s.start_s, '.')} --> {_stamp(s.end_s, '.')}\n{html.escape(_line(s.text), quote=False)}\n\n"
        for s in cues
    )


def _line(text: str) -> str:
    """On one line: an enrolled word may hold anything, and an empty line would end the cue."""
    return " ".join(text.split())


def _stamp(seconds: float, point: str) -> str:
    millis = round(seconds * 1000)
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
