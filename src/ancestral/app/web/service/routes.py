"""The routes of a service: samples, models, and what a supervisor asks."""

from __future__ import annotations

import asyncio
import base64
import math
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Literal

import numpy as np
from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.responses import StreamingResponse
from torch import Tensor

from ancestral.app.pictures import png
from ancestral.app.sampling.batching import Progress
from ancestral.app.sampling.writing import npz, picture_of, values
from ancestral.app.web.errors import FULL
from ancestral.app.web.events import event, stream
from ancestral.app.web.render import shown
from ancestral.app.web.service.bodies import Samples
from ancestral.app.web.service.state import Order, Service
from ancestral.errors import AncestralError
from ancestral.runtime import memory_is_full

Format = Literal["png", "npz", "json"]
TYPES = {"png": "image/png", "npz": "application/octet-stream"}
QUIET = 5.0  # seconds after which a stream says that it is alive

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
        }
    },
}
WRONG = {
    400: "The request is wrong, or over a limit.",
    401: "The token is missing or wrong.",
    403: "The request names another host or comes from another site.",
    404: "There is no such model.",
    405: "The path has other methods.",
    408: "The request did not arrive in time.",
    409: "The model cannot do this.",
    413: "The request is too large.",
    429: "The queue is full. `Retry-After` says when to ask again.",
    500: "An error of the service.",
    503: "The service is ending, or its memory is full.",
    504: "The request was not finished in its time.",
}


def errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers of these statuses for the OpenAPI."""
    return {code: {"description": WRONG[code], "content": {"application/json": {"schema": ERROR}}} for code in codes}


ALWAYS = (401, 403, 405, 408, 413)


def router(service: Service) -> APIRouter:
    """Return the routes."""
    api = APIRouter()

    @api.post(
        "/v1/samples",
        summary="Draw samples",
        response_class=Response,
        responses={
            200: {
                "description": "The samples, or with `stream` the events queued, state, and done or error.",
                "content": {
                    "image/png": {},
                    "application/octet-stream": {},
                    "application/json": {"schema": {"type": "object", "required": ["seeds", "samples"]}},
                    "text/event-stream": {},
                },
            },
            **errors(400, 404, 409, 429, 500, 503, 504, *ALWAYS),
        },
    )
    async def samples(asked: Samples, http: Request) -> Response:
        """Draw samples and return them as one picture (png), as an array file (npz) or as numbers (json)."""
        served = service.find(asked.model)
        place = partial(service.order, served, asked.values(), negative=asked.negative, watched=asked.stream)
        order = await to_thread.run_sync(place)
        if asked.stream:
            return watched(service, order, asked.format)
        try:
            x = await service.result(order, http)
            return await to_thread.run_sync(whole, service, order, x, asked.format)
        finally:
            order.close()

    @api.get("/v1/models", summary="List the models", responses=errors(*ALWAYS))
    def models() -> dict[str, Any]:
        """Return all models, with what each can be asked for."""
        return {"object": "list", "data": [served.describe() for served in service.models.values()]}

    @api.get("/v1/models/{name}", summary="Describe a model", responses=errors(400, 404, *ALWAYS))
    def model(name: str) -> dict[str, Any]:
        """Return what a model can be asked for."""
        return service.find(name).describe()

    return api


def supervision(service: Service) -> APIRouter:
    """Return the routes for a supervisor, which need no token apart from the metrics."""
    api = APIRouter()

    @api.get("/health", summary="Say whether the process works", responses=errors(503, *ALWAYS))
    def health() -> JSONResponse:
        """Return 200 as long as requests are drawn."""
        alive = service.batcher.alive
        return JSONResponse({"status": "ok" if alive else "ending"}, 200 if alive else 503)

    @api.get("/ready", summary="Say whether requests are accepted", responses=errors(503, *ALWAYS))
    def ready() -> JSONResponse:
        """Return 200 if the models are loaded and the queue has a place, else 503."""
        waiting = service.batcher.waiting
        able = service.batcher.alive and waiting < service.limits.queue
        return JSONResponse({"status": "ready" if able else "busy", "waiting": waiting}, 200 if able else 503)

    @api.get(
        "/metrics",
        summary="Measure the service",
        response_class=Response,
        responses={200: {"description": "Figures.", "content": {"text/plain": {}}}, **errors(*ALWAYS)},
    )
    def metrics() -> Response:
        """Return figures in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return api


def whole(service: Service, order: Order, x: Tensor, format: Format) -> Response:
    """Return samples as the answer to a request that does not stream."""
    if format == "json":
        return JSONResponse(numbers(order, x))
    content = file(service, order, x, format)
    return Response(content, media_type=TYPES[format], headers={"content-disposition": f'inline; filename="samples.{format}"'})


def file(service: Service, order: Order, x: Tensor, format: Format) -> bytes:
    """Return samples as the content of a file, as `ancestral sample --out` writes it."""
    if format == "npz":
        return npz(x, order.served.spec, order.seeds, order.record, order.job.sampling.classes)
    with service.drawing:
        picture = picture_of(x, order.job.sampling, order.request, order.served.spec)
    return png(picture, order.record.chunks())


def numbers(order: Order, x: Tensor) -> dict[str, Any]:
    """Return samples as numbers, those of the npz. A number that is not finite is null."""
    array = values(x, order.served.spec)
    plain = array.tolist()
    if not np.isfinite(array).all():
        plain = _finite(plain)
    return {"model": order.served.name, "seeds": order.seeds, "shape": list(array.shape[1:]), "samples": plain}


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value if math.isfinite(value) else None


def watched(service: Service, order: Order, format: Format) -> StreamingResponse:
    """Return the events of a request: queued, state with pictures, and done with the samples, or error."""
    return stream(_events(service, order, format))


async def _events(service: Service, order: Order, format: Format) -> AsyncIterator[str]:
    spec, last, said = order.served.spec, None, time.monotonic()
    future = asyncio.wrap_future(order.job.future)
    try:
        yield event("queued", {"n": order.job.n, "seeds": order.seeds, "waiting": service.batcher.waiting})
        while not future.done():
            await asyncio.wait({future}, timeout=0.05)
            if time.monotonic() > order.end:
                raise service.late()
            progress: Progress | None = order.job.progress
            if progress is not None and progress is not last and not future.done():
                last, said = progress, time.monotonic()
                picture = await to_thread.run_sync(_picture, service, progress.x, spec)
                steps = {"ready": progress.ready, "n": progress.n, "done": progress.done, "total": progress.total}
                yield event("state", steps | {"samples": picture})
            elif time.monotonic() - said > QUIET:
                said = time.monotonic()
                yield ": it is in the queue\n\n"
        x = future.result()
        if format == "json":
            yield event("done", {"format": format, **await to_thread.run_sync(numbers, order, x)})
        else:
            content = await to_thread.run_sync(file, service, order, x, format)
            text = base64.b64encode(content).decode()
            yield event("done", {"format": format, "model": order.served.name, "seeds": order.seeds, "content": text})
    except AncestralError as error:
        yield event("error", {"error": {"message": str(error), "type": kind_of(400)}})
    except (MemoryError, RuntimeError) as error:
        if not memory_is_full(error):
            raise
        yield event("error", {"error": {"message": FULL, "type": kind_of(503)}})
    except (asyncio.CancelledError, GeneratorExit):
        service.metrics.ended.labels("left").inc()
        raise
    finally:
        future.cancel()
        order.close()


def _picture(service: Service, x: Tensor, spec: Any) -> dict[str, Any]:
    with service.drawing:
        return shown(x, spec)


def kind_of(status: int) -> str:
    """Return the type of an error as OpenAI's clients know it."""
    known = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    return known.get(status, "invalid_request_error" if status < 500 else "server_error")


def body_of(status: int, error: str) -> dict[str, Any]:
    """Return the JSON of an error, in the form that OpenAI's clients read."""
    return {"error": {"message": error, "type": kind_of(status)}}
