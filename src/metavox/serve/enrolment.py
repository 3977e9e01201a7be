"""`/v1/vocabularies` (enrol words) and `/v1/voices` (adapt to a speaker, room or language). No recording is kept."""

import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from metavox.serve.deltas import as_json
from metavox.serve.engine import MAX_TEXT_LENGTH, Engine, TeachingResult
from metavox.serve.problems import ApiError
from metavox.serve.store import Kind, check_name
from metavox.serve.upload import read_clip
from metavox.session import Guess
from metavox.text import has_controls

MAX_WORD_CLIP_S = 10.0
MAX_VOICE_CLIP_S = 30.0

router = APIRouter(prefix="/v1")

Files = Annotated[list[UploadFile], File(description="recordings")]
Language = Annotated[str, Form(description="the language of the texts (ISO 639, such as en)")]
Clip = tuple[str, bytes]  # file name, content


@router.post("/vocabularies/{name}")
async def enrol(
    request: Request,
    name: str,
    files: Files,
    labels: Annotated[list[str], Form(description="the word of each file; by default its file name")] = [],  # noqa: B006
    language: Language = "",
) -> Response:
    """Enrol a vocabulary from recordings of words, replacing one of the same name."""
    engine: Engine = request.app.state.engine
    check_name(name)
    clips = await _read_files(files)
    words = _texts(labels or [PurePosixPath(filename).stem for filename, _ in clips], clips, "labels")

    def work() -> TeachingResult:
        decoded = _decode(clips, engine.rate, MAX_WORD_CLIP_S)
        return engine.teach("vocabularies", name, decoded, words, _checked(language), _names(clips))

    saved = (await engine.run_learning(work)).saved
    return JSONResponse(as_json(engine, saved.entry), 201 if saved.new else 200)


@router.post("/vocabularies/{name}/recognitions")
async def recognise(request: Request, name: str, file: UploadFile) -> dict[str, object]:
    """Recognise a recording as one of the vocabulary's words; `word` is null when it is none of them."""
    engine: Engine = request.app.state.engine
    engine.store.entry("vocabularies", name)
    data = await file.read()

    def work() -> Guess:
        return engine.recognise(read_clip(data, file.filename, engine.rate, MAX_WORD_CLIP_S), name)

    guess = await engine.run(work)
    ranked = [{"word": word, "similarity": round(value, 4)} for word, value in guess.similarities]
    return {"word": guess.word, "confidence": round(guess.confidence, 4), "similarities": ranked}


@router.post("/voices/{name}")
async def adapt(
    request: Request,
    name: str,
    files: Files,
    texts: Annotated[list[str], Form(description="the transcript of each file")],
    language: Language = "",
) -> Response:
    """Adapt to a speaker, room or language from recordings and transcripts, replacing a voice of the same name."""
    engine: Engine = request.app.state.engine
    check_name(name)
    clips = await _read_files(files)
    transcripts = _texts(texts, clips, "texts")

    def work() -> TeachingResult:
        decoded = _decode(clips, engine.rate, MAX_VOICE_CLIP_S)
        return engine.teach("voices", name, decoded, transcripts, _checked(language), _names(clips))

    result = await engine.run_learning(work)
    first, last = (result.losses[0], result.losses[-1]) if result.losses else (math.nan, math.nan)
    losses = {"first_loss": _finite(first), "last_loss": _finite(last)}
    saved = result.saved
    return JSONResponse({**as_json(engine, saved.entry), **losses}, 201 if saved.new else 200)


def _add_common_routes(kind: Kind) -> None:
    """Add the routes that both kinds share: list, read and delete."""

    @router.get(f"/{kind}", name=f"list_{kind}")
    async def list_all(request: Request) -> dict[str, object]:
        engine: Engine = request.app.state.engine
        return {"object": "list", "data": [as_json(engine, e) for e in engine.store.entries(kind)]}

    @router.get(f"/{kind}/{{name}}", name=f"read_{kind}")
    async def read(request: Request, name: str) -> dict[str, object]:
        engine: Engine = request.app.state.engine
        return as_json(engine, engine.store.entry(kind, name))

    @router.delete(f"/{kind}/{{name}}", name=f"delete_{kind}")
    async def delete(request: Request, name: str) -> dict[str, object]:
        request.app.state.engine.store.delete(kind, name)
        return {"id": name, "deleted": True}


_add_common_routes("vocabularies")
_add_common_routes("voices")


async def _read_files(files: Sequence[UploadFile]) -> list[Clip]:
    return [(file.filename or f"file {i}", await file.read()) for i, file in enumerate(files, 1)]


def _names(clips: Sequence[Clip]) -> list[str]:
    """File names as messages show them: without folders, on one line, of at most 100 characters."""
    return [" ".join(PurePosixPath(name.replace("\\", "/")).name.split())[:100] for name, _ in clips]


def _decode(clips: Sequence[Clip], rate_hz: int, longest_s: float) -> list[np.ndarray]:
    return [read_clip(data, name, rate_hz, longest_s, "files") for name, data in clips]


def _texts(texts: Sequence[str], clips: Sequence[Clip], field: str) -> list[str]:
    """The text of each clip on one line. Raises ApiError 400 unless there is one valid text per clip."""
    if len(texts) != len(clips):
        message = f"{len(texts)} {field} for {len(clips)} files; expected one per file, in the same order"
        raise ApiError(400, message, field, "wrong_count")
    lines = [" ".join(text.split()) for text in texts]
    for line, (name, _) in zip(lines, clips, strict=True):
        if not line or len(line) > MAX_TEXT_LENGTH or has_controls(line):
            message = f"{name}: {field} {line[:40]!r}; expected 1 to {MAX_TEXT_LENGTH} printable characters"
            raise ApiError(400, message, field, "invalid_value")
    return lines


def _checked(language: str) -> str:
    if not re.fullmatch("([A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*)?", language.strip()):
        message = (
            f"language {language[:40]!r}; expected an ISO 639 code such as en, or a BCP 47 tag such as pt-BR"
        )
        raise ApiError(400, message, "language", "invalid_value")
    return language.strip()


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
