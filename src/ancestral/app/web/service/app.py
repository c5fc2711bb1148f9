"""The application of a service and its server."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import uvicorn
from anyio import to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPBearer

from ancestral.app.sampling.batching import BusyError
from ancestral.app.web.connection import connection
from ancestral.app.web.errors import FULL, answer_errors, status_of
from ancestral.app.web.guard import Guard
from ancestral.app.web.service import images, routes
from ancestral.app.web.service.metrics import Measured
from ancestral.app.web.service.page import page
from ancestral.app.web.service.state import LateError, LeftError, Service, UnknownModelError
from ancestral.errors import AncestralError, UsageError
from ancestral.runtime import memory_is_full
from ancestral.version import __version__

LEAST = 16  # characters of a token
FREE = ("/health", "/ready")
ABOUT = "Samples of trained models. The same seeds give the same samples, whatever else is asked at the same time."


def create_service(service: Service, *, token: str | None = None, local: bool = True, port: int | None = None) -> FastAPI:
    """Return the application of a service.

    Args:
        service: the state.
        token: the token that a request must have. None: all are admitted.
        local: whether requests must call the server by a name of this machine.
        port: the port of the server. None: any.

    Raises:
        UsageError: if the token is too short to be safe.
    """
    if token is not None and len(token) < LEAST:
        raise UsageError(f"the token has {len(token)} characters: choose at least {LEAST} at random, e.g. openssl rand -hex 32")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(service.batcher.close)

    shielded = [Depends(HTTPBearer(auto_error=False))] if token is not None else []  # for the OpenAPI: the guard decides
    app = FastAPI(
        title="ancestral serve", version=__version__, description=ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.include_router(routes.router(service), dependencies=shielded)
    app.include_router(images.router(service), dependencies=shielded)
    app.include_router(routes.supervision(service))

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    def docs(http: Request) -> HTMLResponse:
        return HTMLResponse(page(app.openapi(), str(http.base_url).rstrip("/"), token is not None))

    def status(error: AncestralError) -> int:
        known = {BusyError: 429, LateError: 504, UnknownModelError: 404}
        return known.get(type(error), status_of(error))

    def headers(error: AncestralError) -> Mapping[str, str]:
        if not isinstance(error, BusyError):
            return {}
        service.metrics.ended.labels("busy").inc()
        return {"retry-after": str(error.seconds)}

    answer_errors(app, routes.body_of, status, headers)

    @app.exception_handler(LeftError)
    def left(request: Request, error: LeftError) -> Response:
        return Response(status_code=499)  # nobody reads it; nginx counts such requests so

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> JSONResponse:
        code = 503 if memory_is_full(error) else 500
        return JSONResponse(routes.body_of(code, FULL if code == 503 else "this is an error of the service"), code)

    app.add_middleware(
        Guard,
        token=token,
        local=local,
        port=port,
        limit=lambda path: service.limits.body,
        seconds=service.limits.patience,
        free=FREE,
        body=routes.body_of,
    )
    app.add_middleware(Measured, metrics=service.metrics)
    return app


def serve(app: FastAPI, where: socket.socket, service: Service, *, log: bool = True) -> None:
    """Serve an application until SIGINT or SIGTERM, and then finish what was accepted.

    Args:
        app: what `create_service` returned.
        where: a bound socket.
        service: the state.
        log: whether each request is logged.
    """
    limits = service.limits
    config = uvicorn.Config(
        app,
        http=connection(limits.patience),
        ws="none",
        log_level="info" if log else "warning",
        access_log=log,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=math.ceil(limits.seconds + limits.patience),
    )
    uvicorn.Server(config).run(sockets=[where])
