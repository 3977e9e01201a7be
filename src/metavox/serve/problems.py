"""Errors in the form that OpenAI's clients expect: `{"error": {"message", "type", "param", "code"}}`."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from metavox.errors import UserError
from metavox.serve.store import NameTaken, NoSuchName, ReadOnly

logger = logging.getLogger("metavox.serve")


class ApiError(HTTPException):
    """An error response: HTTP status, one line for people, the field at fault, and a code for programs."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(status, message)
        self.param = param
        self.code = code


def problem(
    status: int, message: str, param: str | None = None, code: str | None = None, allow: str | None = None
) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, headers={"Allow": allow} if allow else None)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of `app` in the form above."""

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            return problem(error.status_code, error.detail, error.param, error.code)
        return problem(error.status_code, str(error.detail), allow=(error.headers or {}).get("Allow"))

    @app.exception_handler(UserError)
    async def user_error(_: Request, error: UserError) -> JSONResponse:
        statuses: dict[type[UserError], tuple[int, str]] = {
            NoSuchName: (404, "not_found"),
            NameTaken: (409, "name_taken"),
            ReadOnly: (409, "read_only"),
        }
        status, code = statuses.get(type(error), (400, "invalid_value"))
        return problem(status, str(error), None, code)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = str(first["loc"][1]) if len(first["loc"]) > 1 else None
        kind = request.headers.get("content-type", "")
        if not kind.startswith("multipart/form-data"):
            return problem(
                415, f"content type {kind or 'none'}; expected multipart/form-data", None, "unsupported_media"
            )
        return problem(400, f"{param}: {first['msg'].lower()}", param, str(first["type"]))

    @app.exception_handler(Exception)
    async def unexpected_error(_: Request, error: Exception) -> JSONResponse:
        logger.error("unexpected error", exc_info=error)
        return problem(500, "the server failed; its log says why", code="internal_error")
