"""`/v1/audio/transcriptions` and `/v1/models`, as OpenAI's clients call them."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from metavox.audio.channels import channel_named
from metavox.errors import UserError
from metavox.recognisers.transcript import Transcript
from metavox.recognition.formats import FORMATS, as_events, as_json, as_srt, as_verbose_json, as_vtt
from metavox.serve.engine import Engine, Selection
from metavox.serve.problems import ApiError
from metavox.serve.store import KINDS
from metavox.serve.upload import read_upload

MODEL = "metavox"
GRANULARITIES = ("word", "segment")
STREAMED = ("json", "text")  # the others end only when all is known
SAME_MODEL = (MODEL, "whisper-1")  # the second is built into many clients

router = APIRouter(prefix="/v1")


@router.post("/audio/transcriptions")
async def transcriptions(
    request: Request,
    file: Annotated[UploadFile, File(description="a recording: wav, mp3, flac, ogg, m4a, mp4, webm")],
    model: Annotated[str, Form(description="metavox, or metavox:NAME,NAME with names of deltas")] = MODEL,
    language: Annotated[str, Form(description="what is spoken (ISO 639, as en); none: detected")] = "",
    prompt: Annotated[str, Form(description="what was said before, for bases that take it")] = "",
    response_format: Annotated[str, Form(description="json | text | verbose_json | srt | vtt")] = "json",
    deltas: Annotated[str, Form(description="names of voices, with commas between")] = "",
    vocabulary: Annotated[str, Form(description="the name of an enrolled vocabulary")] = "",
    granularities: Annotated[
        list[str], Form(alias="timestamp_granularities[]", description="word, segment; of verbose_json")
    ] = [],  # noqa: B006
    stream: Annotated[bool, Form(description="server-sent events, of json and text")] = False,
    channel: Annotated[str, Form(description="mix | left | right | the number of a channel, from 1")] = "mix",
) -> Response:
    """A recording to text."""
    if response_format not in FORMATS:
        message = f"response_format {response_format[:40]!r}; expected one of {', '.join(FORMATS)}"
        raise ApiError(400, message, "response_format", "invalid_value")
    if others := [one for one in granularities if one not in GRANULARITIES]:
        message = f"timestamp_granularities[] {others[0][:40]!r}; expected one of {', '.join(GRANULARITIES)}"
        raise ApiError(400, message, "timestamp_granularities[]", "invalid_value")
    try:
        chosen_channel = channel_named(channel)
    except UserError as error:
        raise ApiError(400, f"channel {error}", "channel", "invalid_value") from error
    engine: Engine = request.app.state.engine
    data = await file.read()
    timed = "word" in granularities or response_format in ("srt", "vtt")
    options = engine.options(language.strip()[:40], timed, prompt)

    def work() -> tuple[Transcript, str]:
        chosen = choose(engine, model, deltas, vocabulary)
        recording = read_upload(data, file.filename, engine.rate, channel=chosen_channel)
        return engine.transcribe(recording.samples, chosen, options), recording.warning

    transcript, warning = await engine.run(work)
    if stream and response_format in STREAMED:
        return StreamingResponse(as_events(transcript), media_type="text/event-stream")
    warnings = [f"{warning}; send channel=left or channel=right to transcribe one of them"] if warning else []
    return written(transcript, response_format, language[:40], "word" in granularities, warnings)


@router.get("/models")
async def models(request: Request) -> dict[str, object]:
    """The model, alone and with each stored delta."""
    engine: Engine = request.app.state.engine
    entries = [entry for kind in KINDS for entry in engine.store.entries(kind)]
    usable = [entry for entry in entries if engine.usable(entry)]
    listed = [(MODEL, engine.created), *((f"{MODEL}:{e.name}", e.created) for e in usable)]
    return {
        "object": "list",
        "data": [{"id": i, "object": "model", "created": at, "owned_by": "metavox"} for i, at in listed],
    }


@router.get("/models/{model:path}")
async def one_model(request: Request, model: str) -> dict[str, object]:
    engine: Engine = request.app.state.engine
    choose(engine, model, "", "")
    return {"id": model, "object": "model", "created": engine.created, "owned_by": "metavox"}


def choose(engine: Engine, model: str, deltas: str, vocabulary: str) -> Selection:
    """What the fields of a request ask for. Raises ApiError 404 for another model, NoSuchName for a delta."""
    name, _, after = model.partition(":")
    if name not in SAME_MODEL:
        message = f"no model {model[:80]!r} here; expected {MODEL}, or {MODEL}:NAME with the name of a delta"
        raise ApiError(404, message, "model", "model_not_found")
    names = [part.strip() for part in f"{after},{deltas}".split(",") if part.strip()]
    return engine.select(names, vocabulary.strip() or None)


def written(
    transcript: Transcript, response_format: str, language: str, words: bool, warnings: Sequence[str] = ()
) -> Response:
    match response_format:
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case "srt":
            return PlainTextResponse(as_srt(transcript))
        case "vtt":
            return PlainTextResponse(as_vtt(transcript), media_type="text/vtt")
        case "verbose_json":
            told = {"warnings": list(warnings)} if warnings else {}
            return JSONResponse({**as_verbose_json(transcript, language, words), **told})
        case _:
            return JSONResponse(as_json(transcript))
