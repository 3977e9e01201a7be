"""`/v1/deltas`: list, upload, download and delete deltas, both voices and vocabularies."""

import io
import tarfile
from typing import Annotated

from fastapi import APIRouter, File, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from metavox.serve.description import describe_entry
from metavox.serve.engine import Engine
from metavox.serve.problems import ApiError
from metavox.serve.store import FILES, KINDS, Entry, Kind

MAX_DESCRIPTION_BYTES = 1 << 20

router = APIRouter(prefix="/v1/deltas")


@router.get("")
async def list_deltas(request: Request) -> dict[str, object]:
    """List all deltas."""
    engine: Engine = request.app.state.engine
    entries = [entry for kind in KINDS for entry in engine.store.entries(kind)]
    return {"object": "list", "data": [as_json(engine, entry) for entry in entries]}


@router.put("/{name}")
async def push(
    request: Request,
    name: str,
    description: Annotated[UploadFile, File(alias=FILES[0], description="the file delta.json")],
    tensors: Annotated[UploadFile, File(alias=FILES[1], description="the file delta.safetensors")],
) -> Response:
    """Store a delta that `metavox adapt` made for this base, replacing one of the same name and kind."""
    engine: Engine = request.app.state.engine
    files = {FILES[0]: await description.read(), FILES[1]: await tensors.read()}
    if len(files[FILES[0]]) > MAX_DESCRIPTION_BYTES:
        message = f"delta.json is over the {MAX_DESCRIPTION_BYTES >> 20} MiB allowed; send one that `metavox adapt` made"
        raise ApiError(413, message, FILES[0], "request_too_large")
    saved = await engine.run_learning(engine.push, name, files)
    return JSONResponse(as_json(engine, saved.entry), 201 if saved.new else 200)


@router.get("/{name}")
async def read(request: Request, name: str) -> dict[str, object]:
    """Describe one delta."""
    engine: Engine = request.app.state.engine
    return as_json(engine, engine.store.entry(engine.store.kind_of(name), name))


@router.get("/{name}/archive")
async def archive(request: Request, name: str) -> Response:
    """Return the delta's two files as a tar archive."""
    engine: Engine = request.app.state.engine
    return Response(
        as_tar(engine.store.files(engine.store.kind_of(name), name)), media_type="application/x-tar"
    )


@router.delete("/{name}")
async def delete(request: Request, name: str) -> dict[str, object]:
    """Delete one delta."""
    engine: Engine = request.app.state.engine
    kind: Kind = engine.store.kind_of(name)
    engine.store.delete(kind, name)
    return {"id": name, "deleted": True}


def as_json(engine: Engine, entry: Entry) -> dict[str, object]:
    """Describe a delta and say whether it fits the served base."""
    return {**describe_entry(entry), "usable": engine.usable(entry)}


def as_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
