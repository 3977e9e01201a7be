"""Writes transcripts as text, JSON, SubRip or WebVTT."""

import html
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from metavox.recognisers.transcript import Segment, Transcript, Word

Format = Literal["text", "json", "verbose_json", "srt", "vtt"]
FORMATS: tuple[str, ...] = get_args(Format)
SEEK_PER_S = 100  # units of `seek`
MIN_CONFIDENCE = 1e-6  # for its logarithm
# Two lines of 42 characters, as broadcasters and film distributors require.
MAX_CUE_S, MAX_CUE_CHARACTERS = 7.0, 84
SENTENCE_ENDS = (".", "!", "?", "…", "。", "؟", "।")
TIMED: tuple[str, ...] = ("verbose_json", "srt", "vtt")  # formats that use word times


def written(transcripts: Mapping[str, Transcript], form: Format, alone: bool) -> str:
    """Transcripts by file name as one text; `alone` leaves the file name out."""
    if form in ("json", "verbose_json"):
        write = as_json if form == "json" else as_verbose_json
        values = [
            {**({} if alone else {"file": name}), **write(transcript)}
            for name, transcript in transcripts.items()
        ]
        return json.dumps(values[0] if alone else values, indent=2, ensure_ascii=False) + "\n"
    if form in ("srt", "vtt"):
        write_cues = as_srt if form == "srt" else as_vtt
        return "".join(map(write_cues, transcripts.values()))
    return "".join(
        transcript.text + "\n" if alone else f"{name}: {transcript.text}\n"
        for name, transcript in transcripts.items()
    )


def as_json(transcript: Transcript) -> dict[str, object]:
    return {"text": transcript.text}


def as_verbose_json(transcript: Transcript, language: str = "", words: bool = True) -> dict[str, object]:
    """OpenAI's `verbose_json`; `words` says whether to include word times.

    The answer's `language` is the request's `language`, otherwise the transcript's, otherwise "unknown",
    because clients expect a non-empty string. Of OpenAI's fields of a segment, `tokens` is empty and
    `no_speech_prob` is 0, since recognisers do not report them; `avg_logprob` is the logarithm of our
    confidence.
    """
    segments = [segment for segment in transcript.segments if segment.text]
    out: dict[str, object] = {
        "task": "transcribe",
        "language": language or transcript.language or "unknown",
        "duration": round(transcript.duration_s, 3),
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


def as_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues with a comma before the milliseconds."""
    return "".join(
        f"{i}\n{_stamp(cue.start_s, ',')} --> {_stamp(cue.end_s, ',')}\n{_line(cue.text)}\n\n"
        for i, cue in enumerate(_cues(transcript), 1)
    )


def as_vtt(transcript: Transcript) -> str:
    return "WEBVTT\n\n" + "".join(
        f"{_stamp(cue.start_s, '.')} --> {_stamp(cue.end_s, '.')}\n{html.escape(_line(cue.text), quote=False)}\n\n"
        for cue in _cues(transcript)
    )


def _cues(transcript: Transcript) -> Iterator[Segment]:
    """Subtitles that are shown at once.

    A cue lasts from its first word to its last if word times are known. It is at most MAX_CUE_S long and has
    at most MAX_CUE_CHARACTERS if its words can be separated.
    """
    for segment in transcript.segments:
        if not segment.text:
            continue
        cues = [segment.words] if segment.words else []
        if " ".join(word.text for word in segment.words) == _line(segment.text):
            cues = list(_split_words(segment.words))
        for cue in cues:
            text = _line(segment.text) if len(cues) == 1 else " ".join(word.text for word in cue)
            yield replace(segment, text=text, start_s=cue[0].start_s, end_s=cue[-1].end_s, words=cue)
        if not cues:
            yield segment


def _split_words(words: Sequence[Word]) -> Iterator[tuple[Word, ...]]:
    """Runs of words that fit a cue; the end of a sentence closes a cue that is at least half full."""
    cue: list[Word] = []
    for word in words:
        length = len(" ".join(w.text for w in cue))
        full = (
            length + 1 + len(word.text) > MAX_CUE_CHARACTERS
            or word.end_s - (cue or [word])[0].start_s > MAX_CUE_S
        )
        ended = 2 * length > MAX_CUE_CHARACTERS and cue[-1].text.endswith(SENTENCE_ENDS)
        if cue and (full or ended):
            yield tuple(cue)
            cue = []
        cue.append(word)
    if cue:
        yield tuple(cue)


def _line(text: str) -> str:
    """The text on one line, because an enrolled word may hold anything and an empty line would end the cue."""
    return " ".join(text.split())


def _stamp(seconds: float, separator: str) -> str:
    millis = round(seconds * 1000)
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{separator}{rest % 1000:03d}"
