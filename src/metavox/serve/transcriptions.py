"""`/v1/audio/transcriptions` and `/v1/models`, compatible with OpenAI's clients."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from metavox.audio.channels import channel_named
from metavox.errors import UserError
from metavox.recognisers.transcript import Transcript
from metavox.recognition.formats import FORMATS, as_events, as_json, as_verbose_json
from metavox.recognition.subtitles import SUBTITLE_FORMATS, as_ass, as_srt, as_vtt
from metavox.serve.engine import Engine, Selection
from metavox.serve.problems import ApiError
from metavox.serve.store import KINDS
from metavox.serve.upload import read_upload

MODEL = "metavox"
GRANULARITIES = ("word", "segment")
STREAMED = ("json", "text")  # the other formats need the complete transcript
MODEL_NAMES = (MODEL, "whisper-1")  # many clients always send the second

router = APIRouter(prefix="/v1")


@router.post("/audio/transcriptions")
async def transcriptions(
    request: Request,
    file: Annotated[UploadFile, File(description="a recording: wav, mp3, flac, ogg, m4a, mp4, webm")],
    model: Annotated[str, Form(description="metavox, or metavox:NAME,NAME with the names of deltas")] = MODEL,
    language: Annotated[
        str, Form(description="the spoken language (ISO 639, such as en); detected by default")
    ] = "",
    prompt: Annotated[str, Form(description="the preceding text, for bases that accept a prompt")] = "",
    response_format: Annotated[str, Form(description="json | text | verbose_json | srt | vtt")] = "json",
    deltas: Annotated[str, Form(description="names of voices, separated by commas")] = "",
    vocabulary: Annotated[str, Form(description="the name of an enrolled vocabulary")] = "",
    granularities: Annotated[
        list[str], Form(alias="timestamp_granularities[]", description="word, segment; for verbose_json")
    ] = [],  # noqa: B006
    stream: Annotated[bool, Form(description="answer json and text as server-sent events")] = False,
    channel: Annotated[str, Form(description="mix | left | right | a channel's number, from 1")] = "mix",
) -> Response:
    """Transcribe a recording."""
    if response_format not in FORMATS:
        message = f"response_format {response_format[:40]!r}; expected one of {', '.join(FORMATS)}"
        raise ApiError(400, message, "response_format", "invalid_value")
    if unknown := [name for name in granularities if name not in GRANULARITIES]:
        message = f"timestamp_granularities[] {unknown[0][:40]!r}; expected one of {', '.join(GRANULARITIES)}"
        raise ApiError(400, message, "timestamp_granularities[]", "invalid_value")
    try:
        channel_number = channel_named(channel)
    except UserError as error:
        raise ApiError(400, f"channel {error}", "channel", "invalid_value") from error
    engine = _engine(request, model, deltas, vocabulary)
    data = await file.read()
    timed = "word" in granularities or response_format in SUBTITLE_FORMATS
    options = engine.options(language.strip()[:40], timed, prompt)

    def work() -> tuple[Transcript, str]:
        selection = select(engine, model, deltas, vocabulary)
        request.state.details.update(voices=selection.voices, vocabulary=selection.vocabulary)
        recording = read_upload(data, file.filename, engine.rate, channel=channel_number)
        return engine.transcribe(recording.samples, selection, options), recording.warning

    transcript, warning = await engine.run(work)
    request.state.details.update(
        seconds=round(transcript.duration_s, 2),
        words=len(transcript.text.split()),
        confidence=round(transcript.confidence, 4),
    )
    if stream and response_format in STREAMED:
        return StreamingResponse(as_events(transcript), media_type="text/event-stream")
    warnings = [f"{warning}; send channel=left or channel=right to transcribe one of them"] if warning else []
    return formatted(transcript, response_format, language[:40], "word" in granularities, warnings)


def _engine(request: Request, model: str, deltas: str, vocabulary: str) -> Engine:
    """The engine of this request: a canary that lacks the deltas that it names leaves it to the champion."""
    chosen: Engine = request.state.engine
    champion: Engine = request.app.state.engine
    names = [name.strip() for name in f"{model.partition(':')[2]},{deltas},{vocabulary}".split(",")]
    if chosen is not champion and any(name and not chosen.knows(name) for name in names):
        request.state.engine = champion
        return champion
    return chosen


@router.get("/models")
async def models(request: Request) -> dict[str, object]:
    """List the model, on its own and with each stored delta."""
    engine: Engine = request.app.state.engine
    entries = [entry for kind in KINDS for entry in engine.store.entries(kind)]
    usable = [entry for entry in entries if engine.usable(entry)]
    listed = [(MODEL, engine.created), *((f"{MODEL}:{e.name}", e.created) for e in usable)]
    return {
        "object": "list",
        "data": [{"id": i, "object": "model", "created": at, "owned_by": "metavox"} for i, at in listed],
    }


@router.get("/models/{model:path}")
async def read_model(request: Request, model: str) -> dict[str, object]:
    """Describe one model."""
    engine: Engine = request.app.state.engine
    select(engine, model, "", "")
    return {"id": model, "object": "model", "created": engine.created, "owned_by": "metavox"}


def select(engine: Engine, model: str, deltas: str, vocabulary: str) -> Selection:
    """The deltas that a request's fields name. Raises ApiError 404 for an unknown model, NoSuchName for a delta."""
    name, _, model_deltas = model.partition(":")
    if name not in MODEL_NAMES:
        message = f"no model {model[:80]!r} here; expected {MODEL}, or {MODEL}:NAME with the name of a delta"
        raise ApiError(404, message, "model", "model_not_found")
    names = [item.strip() for item in f"{model_deltas},{deltas}".split(",") if item.strip()]
    return engine.select(names, vocabulary.strip() or None)


def formatted(
    transcript: Transcript, response_format: str, language: str, words: bool, warnings: Sequence[str] = ()
) -> Response:
    match response_format:
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case "srt":
            return PlainTextResponse(as_srt(transcript))
        case "ass":
            return PlainTextResponse(as_ass(transcript))
        case "vtt":
            return PlainTextResponse(as_vtt(transcript), media_type="text/vtt")
        case "verbose_json":
            extra = {"warnings": list(warnings)} if warnings else {}
            return JSONResponse({**as_verbose_json(transcript, language, words), **extra})
        case _:
            return JSONResponse(as_json(transcript))
