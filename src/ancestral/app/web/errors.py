"""Errors as JSON with one sentence, for the studio and the service alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ancestral.app.web.guard import Body, sentence
from ancestral.errors import AncestralError
from ancestral.files import FULL as DISK_FULL

FULL = "the memory is full: ask for fewer samples"


def status_of(error: AncestralError) -> int:
    """Return the status of an error: 400 if the request is wrong, else 409."""
    return 400 if error.exit_code == 2 else 409


def answer_errors(
    app: FastAPI,
    body: Body = sentence,
    status: Callable[[AncestralError], int] = status_of,
    headers: Callable[[AncestralError], Mapping[str, str]] = lambda error: {},
) -> None:
    """Let an application answer every error of a request with JSON.

    Args:
        app: the application.
        body: the JSON of an error.
        status: the status of an error.
        headers: further headers of the answer.
    """

    @app.exception_handler(AncestralError)
    def wrong(request: Request, error: AncestralError) -> JSONResponse:
        code = status(error)
        return JSONResponse(body(code, str(error)), code, dict(headers(error)))

    @app.exception_handler(OSError)
    def unwritten(request: Request, error: OSError) -> JSONResponse:
        code, reason = 507 if error.errno in DISK_FULL else 500, (error.strerror or str(error)).lower()
        return JSONResponse(body(code, f"a file cannot be written or read: {reason}"), code)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return JSONResponse(body(400, f"{where[:200]}: {first['msg']}".lower()), 400)

    @app.exception_handler(HTTPException)
    def missing(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(body(error.status_code, str(error.detail).lower()), error.status_code, error.headers)
