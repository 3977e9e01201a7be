"""Teaching the service: `/v1/vocabularies` (new words), `/v1/voices` (adaptation). No recording is kept."""

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from metavox.serve.deltas import as_json
from metavox.serve.engine import LONGEST_TEXT, Engine, Lesson
from metavox.serve.problems import ApiError
from metavox.serve.store import Kind, check_name
from metavox.serve.upload import read_clip
from metavox.session import Guess
from metavox.text import has_controls

LONGEST_WORD_CLIP_S = 10.0
LONGEST_VOICE_CLIP_S = 30.0

router = APIRouter(prefix="/v1")

Files = Annotated[list[UploadFile], File(description="recordings")]
Clip = tuple[str, bytes]  # file name, content


@router.post("/vocabularies/{name}")
async def enrol(
    request: Request,
    name: str,
    files: Files,
    labels: Annotated[list[str], Form(description="the word of each file; none: file names say it")] = [],  # noqa: B006
) -> Response:
    """Recordings of words to a vocabulary; one of the same name is replaced."""
    engine: Engine = request.app.state.engine
    check_name(name)
    clips = await _received(files)
    words = _texts(labels or [PurePosixPath(filename).stem for filename, _ in clips], clips, "labels")

    def work() -> Lesson:
        decoded = _decoded(clips, engine.rate, LONGEST_WORD_CLIP_S)
        return engine.teach("vocabularies", name, decoded, words, _names(clips))

    lesson = await engine.run_learning(work)
    return JSONResponse(as_json(engine, lesson.kept.entry), 201 if lesson.kept.new else 200)


@router.post("/vocabularies/{name}/recognitions")
async def recognise(request: Request, name: str, file: UploadFile) -> dict[str, object]:
    """Which word of the vocabulary a recording is; `word` is null when it is none of them."""
    engine: Engine = request.app.state.engine
    engine.store.entry("vocabularies", name)
    data = await file.read()

    def work() -> Guess:
        return engine.recognise(read_clip(data, file.filename, engine.rate, LONGEST_WORD_CLIP_S), name)

    guess = await engine.run(work)
    ranked = [{"word": word, "similarity": round(value, 4)} for word, value in guess.similarities]
    return {"word": guess.word, "confidence": round(guess.confidence, 4), "similarities": ranked}


@router.post("/voices/{name}")
async def adapt(
    request: Request,
    name: str,
    files: Files,
    texts: Annotated[list[str], Form(description="what is said in each file")],
) -> Response:
    """Recordings with their transcripts to a voice; one of the same name is replaced."""
    engine: Engine = request.app.state.engine
    check_name(name)
    clips = await _received(files)
    said = _texts(texts, clips, "texts")

    def work() -> Lesson:
        decoded = _decoded(clips, engine.rate, LONGEST_VOICE_CLIP_S)
        return engine.teach("voices", name, decoded, said, _names(clips))

    lesson = await engine.run_learning(work)
    ends = (lesson.losses[0], lesson.losses[-1]) if lesson.losses else (math.nan, math.nan)
    losses = {"first_loss": _finite(ends[0]), "last_loss": _finite(ends[1])}
    return JSONResponse({**as_json(engine, lesson.kept.entry), **losses}, 201 if lesson.kept.new else 200)


def _add_reading(kind: Kind) -> None:
    """List, read and delete are the same for both kinds."""

    @router.get(f"/{kind}", name=f"list_{kind}")
    async def listed(request: Request) -> dict[str, object]:
        engine: Engine = request.app.state.engine
        return {"object": "list", "data": [as_json(engine, e) for e in engine.store.entries(kind)]}

    @router.get(f"/{kind}/{{name}}", name=f"read_{kind}")
    async def one(request: Request, name: str) -> dict[str, object]:
        engine: Engine = request.app.state.engine
        return as_json(engine, engine.store.entry(kind, name))

    @router.delete(f"/{kind}/{{name}}", name=f"delete_{kind}")
    async def delete(request: Request, name: str) -> dict[str, object]:
        request.app.state.engine.store.delete(kind, name)
        return {"id": name, "deleted": True}


_add_reading("vocabularies")
_add_reading("voices")


async def _received(files: Sequence[UploadFile]) -> list[Clip]:
    return [(file.filename or f"file {i}", await file.read()) for i, file in enumerate(files, 1)]


def _names(clips: Sequence[Clip]) -> list[str]:
    """File names as messages show them: without folders, on one line, and not endless."""
    return [" ".join(PurePosixPath(name.replace("\\", "/")).name.split())[:100] for name, _ in clips]


def _decoded(clips: Sequence[Clip], rate_hz: int, longest_s: float) -> list[np.ndarray]:
    return [read_clip(data, name, rate_hz, longest_s, "files") for name, data in clips]


def _texts(texts: Sequence[str], clips: Sequence[Clip], field: str) -> list[str]:
    """One clean line a clip."""
    if len(texts) != len(clips):
        message = f"{len(texts)} {field} for {len(clips)} files; expected one for each, in the same order"
        raise ApiError(400, message, field, "wrong_count")
    lines = [" ".join(text.split()) for text in texts]
    for line, (name, _) in zip(lines, clips, strict=True):
        if not line or len(line) > LONGEST_TEXT or has_controls(line):
            message = f"{name}: {field} {line[:40]!r}; expected 1 to {LONGEST_TEXT} printable characters"
            raise ApiError(400, message, field, "invalid_value")
    return lines


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
