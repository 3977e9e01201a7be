"""A transcript as text, JSON, SubRip or WebVTT."""

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
FRAMES_PER_S = 100  # of `seek`
LEAST = 1e-6  # confidence, for its logarithm
LONGEST_CUE_S, LONGEST_CUE = (
    7.0,
    84,
)  # two lines of 42 characters, as broadcasters and film distributors ask for
SENTENCE_ENDS = (".", "!", "?", "…", "。", "؟", "।")
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


def as_verbose_json(transcript: Transcript, language: str = "", words: bool = True) -> dict[str, object]:
    """OpenAI's `verbose_json`; `language` is that of the request, and `words` says whether to give their times.

    `language` in the answer is the request's, else the transcript's, else "unknown": clients expect a string with content.

    Of what OpenAI says of a segment, `tokens` is empty and `no_speech_prob` 0, since recognisers do not tell them;
    `avg_logprob` is the logarithm of the confidence, which is ours.
    """
    spoken = [segment for segment in transcript.segments if segment.text]
    out: dict[str, object] = {
        "task": "transcribe",
        "language": language or transcript.language or "unknown",
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text,
        "segments": [_verbose(i, segment) for i, segment in enumerate(spoken)],
    }
    if words:
        out["words"] = [
            {
                "word": word.text,
                "start": round(word.start_s, 3),
                "end": round(word.end_s, 3),
                "confidence": round(word.confidence, 4),
            }
            for segment in spoken
            for word in segment.words
        ]
    return out


def _verbose(number: int, segment: Segment) -> dict[str, object]:
    encoded = segment.text.encode()
    return {
        "id": number,
        "seek": int(segment.start_s * FRAMES_PER_S),
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(math.log(max(segment.confidence, LEAST)), 4),
        "compression_ratio": round(len(encoded) / len(zlib.compress(encoded)), 4),
        "no_speech_prob": 0.0,
        "confidence": round(segment.confidence, 4),
    }


def as_events(transcript: Transcript) -> Iterator[str]:
    """OpenAI's server-sent events of a transcription: a delta a segment, then the whole text."""
    between = ""
    for segment in transcript.segments:
        if segment.text:
            yield _event("transcript.text.delta", delta=between + segment.text)
            between = " "
    yield _event("transcript.text.done", text=transcript.text)


def _event(kind: str, **fields: str) -> str:
    return f"data: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n"


def as_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, comma before the milliseconds."""
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
    """What is on the screen at once: from its first word to its last one where their times are known, for at most LONGEST_CUE_S
    and of at most LONGEST_CUE characters where its words can be told apart."""
    for segment in transcript.segments:
        if not segment.text:
            continue
        parts = [segment.words] if segment.words else []
        if " ".join(word.text for word in segment.words) == _line(segment.text):
            parts = list(_readable(segment.words))
        for part in parts:
            text = _line(segment.text) if len(parts) == 1 else " ".join(word.text for word in part)
            yield replace(segment, text=text, start_s=part[0].start_s, end_s=part[-1].end_s, words=part)
        if not parts:
            yield segment


def _readable(words: Sequence[Word]) -> Iterator[tuple[Word, ...]]:
    """Runs of words that fit a cue; a sentence's end closes one that is half full."""
    part: list[Word] = []
    for word in words:
        length = len(" ".join(one.text for one in part))
        full = (
            length + 1 + len(word.text) > LONGEST_CUE
            or word.end_s - (part or [word])[0].start_s > LONGEST_CUE_S
        )
        ended = 2 * length > LONGEST_CUE and part[-1].text.endswith(SENTENCE_ENDS)
        if part and (full or ended):
            yield tuple(part)
            part = []
        part.append(word)
    if part:
        yield tuple(part)


def _line(text: str) -> str:
    """On one line: an enrolled word may hold anything, and an empty line would end the cue."""
    return " ".join(text.split())


def _stamp(seconds: float, point: str) -> str:
    millis = round(seconds * 1000)
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
