"""Server-sent events: one JSON object each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

from anyio import to_thread
from starlette.responses import StreamingResponse

from ancestral.app.web.errors import FULL
from ancestral.errors import AncestralError
from ancestral.runtime import memory_is_full


def event(name: str, values: Any) -> str:
    """Return one event of the stream."""
    return f"event: {name}\ndata: {json.dumps(values)}\n\n"


def stream(events: Generator[str] | AsyncIterator[str]) -> StreamingResponse:
    """Return the response that sends events as they are made. If the page leaves, the work ends."""
    sent = _in_threads(events) if isinstance(events, Generator) else events
    return StreamingResponse(sent, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _in_threads(events: Generator[str]) -> AsyncIterator[str]:
    """Yield the events, each made in a thread. The generator is closed at the end, so that it gives back what it holds."""
    try:
        while (made := await to_thread.run_sync(next, events, None)) is not None:
            yield made
    finally:
        events.close()


def told(events: Iterator[str]) -> Generator[str]:
    """Yield the events, and an `error` event in place of an error of the request."""
    try:
        yield from events
    except AncestralError as error:
        yield event("error", {"error": str(error)})
    except (MemoryError, RuntimeError) as error:
        if not memory_is_full(error):
            raise
        yield event("error", {"error": FULL})
