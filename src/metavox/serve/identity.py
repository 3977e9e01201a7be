"""Which request and which model an answer belongs to: headers, the canary's share of requests, and the request log."""

import re
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from metavox import journal
from metavox.serve.engine import Engine

MODEL_HEADER = "x-metavox-model"  # `metavox champion lineage` takes its value
REQUEST_HEADER = "x-request-id"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


@dataclass(frozen=True)
class Canary:
    """A candidate for champion that answers `share` of the transcription requests."""

    engine: Engine
    share: float

    def answers(self, request_id: str) -> bool:
        """Whether this request is one of them. A request ID gives the same answer every time."""
        return int(sha256(request_id.encode()).hexdigest()[:8], 16) < self.share * 2**32


class Identity:
    """Middleware that gives each request an ID and a model, says both in the answer, and logs the request.

    A request keeps the model that it began with, even when another one is promoted meanwhile.
    """

    def __init__(self, app: ASGIApp, state: State):
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_HEADER, "")
        request_id = sent if REQUEST_ID.fullmatch(sent) else uuid4().hex
        scope["state"] = own = {
            **scope.get("state", {}),
            "request_id": request_id,
            "engine": self._engine(scope, request_id),
            "details": {},
        }
        status, began = 500, time.monotonic()

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_HEADER] = request_id
                if own["engine"] is not None:
                    headers[MODEL_HEADER] = own["engine"].digest[:16]
            await send(message)

        try:
            await self.app(scope, receive, marked)
        finally:
            log: Path | None = getattr(self.state, "log", None)
            if log is not None and scope["path"].startswith("/v1/"):
                journal.append(log, _line(scope, status, time.monotonic() - began))

    def _engine(self, scope: Scope, request_id: str) -> Engine | None:
        canary: Canary | None = getattr(self.state, "canary", None)
        if canary is not None and scope["path"] == TRANSCRIPTIONS and canary.answers(request_id):
            return canary.engine
        return getattr(self.state, "engine", None)


def _line(scope: Scope, status: int, seconds: float) -> dict[str, object]:
    own = scope["state"]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "id": own["request_id"],
        "request": f"{scope['method']} {scope['path']}",
        "status": status,
        "ms": round(1000 * seconds),
        "model": own["engine"].digest[:16] if own["engine"] is not None else None,
        **own["details"],
    }
