"""`/v1/feedback`: recordings with the text that they should have had, into an inbox that `flows.readapt` learns from."""

import csv
import threading
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import JSONResponse

from metavox.files import written_aside
from metavox.serve.engine import MAX_TEXT_LENGTH, Engine
from metavox.serve.problems import ApiError
from metavox.serve.upload import read_clip
from metavox.text import has_controls

MANIFEST = "manifest.csv"
COLUMNS = ("path", "text", "speaker", "language", "environment", "request")
MAX_FIELD_LENGTH = 200  # characters of speaker, environment and so on
_LOCK = threading.Lock()

router = APIRouter(prefix="/v1")


@router.post("/feedback")
async def feedback(
    request: Request,
    file: UploadFile,
    text: Annotated[str, Form(description="what was said")],
    speaker: Annotated[
        str, Form(description="who said it; a name that is used again for the same person")
    ] = "",
    language: Annotated[str, Form(description="the spoken language (ISO 639, such as en)")] = "",
    environment: Annotated[str, Form(description="where, or with which microphone")] = "",
    answer: Annotated[str, Form(alias="request", description="the x-request-id of the answer")] = "",
) -> JSONResponse:
    """Keep a recording with its correct text, to learn from. The same recording again replaces its text."""
    inbox: Path | None = getattr(request.app.state, "inbox", None)
    if inbox is None:
        message = "this server keeps no recordings; `metavox serve --feedback INBOX` makes it take feedback"
        raise ApiError(403, message, None, "feedback_off")
    engine: Engine = request.app.state.engine
    values = {
        "text": text,
        "speaker": speaker,
        "language": language,
        "environment": environment,
        "request": answer,
    }
    row = {name: _line(name, value) for name, value in values.items()}
    if not row["text"]:
        raise ApiError(400, "text is empty; expected what was said", "text", "invalid_value")
    data = await file.read()

    def work() -> int:
        read_clip(data, file.filename, engine.rate)
        return add(inbox, data, PurePosixPath(file.filename or "").suffix, row)

    count = await engine.run(work)
    return JSONResponse({"id": sha256(data).hexdigest(), "recordings": count}, 201)


def add(inbox: Path, data: bytes, suffix: str, row: dict[str, str]) -> int:
    """Put a recording and its row into the inbox; returns how many recordings are there."""
    name = sha256(data).hexdigest()[:32] + (suffix.lower() if suffix[1:].isalnum() else "")
    manifest = inbox / MANIFEST
    with _LOCK:
        with written_aside(inbox / name) as aside:
            aside.write_bytes(data)
        rows: dict[str, dict[str, str]] = {}
        if manifest.is_file():
            with manifest.open(encoding="utf-8", newline="") as table:
                rows = {known["path"]: known for known in csv.DictReader(table)}
        rows[name] = {**row, "path": name, "speaker": row["speaker"] or "unknown"}
        with written_aside(manifest) as aside, aside.open("w", encoding="utf-8", newline="") as table:
            writer = csv.DictWriter(table, COLUMNS)
            writer.writeheader()
            writer.writerows(rows.values())
    return len(rows)


def _line(name: str, value: str) -> str:
    """The value on one line. Raises ApiError 400 if it is too long or has control characters."""
    line, most = " ".join(value.split()), MAX_TEXT_LENGTH if name == "text" else MAX_FIELD_LENGTH
    if len(line) > most or has_controls(line):
        message = f"{name} {line[:40]!r}; expected at most {most} printable characters"
        raise ApiError(400, message, name, "invalid_value")
    return line
