"""Limits on what clients send: requests of a bounded size, not from other sites' pages; recordings of a bounded length."""

import io
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import numpy as np
import soundfile
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metavox.audio.mono import Recording, TooLong
from metavox.audio.read import AV_OPTIONS, decode_recording
from metavox.errors import UserError
from metavox.serve.problems import ApiError, problem

MAX_REQUEST_BYTES = 25 << 20  # OpenAI's limit
MAX_DELTA_BYTES = 128 << 20  # enough for all weights of a small base; LoRA adapters take a few MB
MAX_DURATION_S = 600.0
MIN_DURATION_S = 0.02
DRAIN_BYTES = 4 * MAX_REQUEST_BYTES


class RequestLimits:
    """Middleware that refuses requests that are too large, before reading them whole, and those from other sites' pages."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_REQUEST_BYTES):
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_delta = scope["method"] == "PUT" and scope["path"].startswith("/v1/deltas/")
        max_bytes = max(self.max_bytes, MAX_DELTA_BYTES) if is_delta else self.max_bytes
        if _is_cross_origin(headers):
            refusal = problem(403, "a page of another site may not use this service", code="forbidden_origin")
            await refusal(scope, receive, send)
            return
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > max_bytes:
            await _drain(receive)
            await problem(413, _too_large(max_bytes), code="request_too_large")(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > max_bytes:
                await _drain(receive)
                raise ApiError(413, _too_large(max_bytes), None, "request_too_large")
            return message

        await self.app(scope, counted, send)


def read_clip(
    data: bytes,
    filename: str | None,
    sample_rate_hz: int,
    max_s: float = MAX_DURATION_S,
    param: str = "file",
) -> np.ndarray:
    """Decode an uploaded recording to samples (time,) at `sample_rate_hz`. Raises ApiError as `read_upload` does."""
    return read_upload(data, filename, sample_rate_hz, max_s, param).samples


def read_upload(
    data: bytes,
    filename: str | None,
    sample_rate_hz: int,
    max_s: float = MAX_DURATION_S,
    param: str = "file",
    channel: int | None = None,
) -> Recording:
    """Decode an uploaded recording at `sample_rate_hz`: one of its channels, counted from 1, or a mix of all.

    Decoding stops at `max_s`. Raises ApiError 400 if the data is not a recording, 413 if it is too long.
    """
    name = PurePosixPath((filename or "the file").replace("\\", "/")).name[:100] or "the file"
    claimed_s = _claimed_s(data)
    if claimed_s > max_s:
        raise _too_long(f"{claimed_s:.0f} s long, over the {max_s:.0f} s allowed", name, param)
    try:
        recording = decode_recording(data, name, sample_rate_hz, channel, max_s)
    except TooLong as error:
        raise _too_long(f"over the {max_s:.0f} s allowed", name, param) from error
    except UserError as error:
        raise ApiError(400, str(error), param, "invalid_audio") from error
    duration_s = len(recording.samples) / sample_rate_hz
    if duration_s < MIN_DURATION_S:
        message = f"{name}: {duration_s:.3f} s long; expected at least {MIN_DURATION_S} s"
        raise ApiError(400, message, param, "audio_too_short")
    return recording


def _too_large(max_bytes: int) -> str:
    return f"the request is over the {max_bytes >> 20} MiB allowed; send less, or a compressed format"


def _too_long(problem: str, name: str, param: str) -> ApiError:
    return ApiError(413, f"{name}: {problem}; split it", param, "audio_too_long")


def _claimed_s(data: bytes) -> float:
    """The duration that the header claims, or 0, so that a long recording is refused before it is decoded."""
    try:
        return float(soundfile.info(io.BytesIO(data)).duration)
    except (soundfile.LibsndfileError, TypeError, ValueError, ZeroDivisionError):
        pass
    import av

    try:
        with av.open(io.BytesIO(data), options=AV_OPTIONS) as container:
            return float((getattr(container, "duration", None) or 0) / av.time_base)
    except (av.FFmpegError, ValueError):
        return 0.0


def _is_cross_origin(headers: Headers) -> bool:
    """Whether another site's page made a browser send the request; other clients send no Origin."""
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


async def _drain(receive: Receive) -> None:
    """Read on for a while, because a client that is still sending would lose the response."""
    remaining = DRAIN_BYTES
    while remaining > 0:
        message = await receive()
        remaining -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return
