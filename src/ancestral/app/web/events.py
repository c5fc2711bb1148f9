"""Server-sent events: one JSON object each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.responses import StreamingResponse

from ancestral.errors import AncestralError


def event(name: str, values: Any) -> str:
    """Return one event of the stream."""
    return f"event: {name}\ndata: {json.dumps(values)}\n\n"


def stream(events: Iterator[str] | AsyncIterator[str]) -> StreamingResponse:
    """Return the response that sends events as they are made."""
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})


def told(events: Iterator[str]) -> Iterator[str]:
    """Yield the events, and an `error` event in place of an error of the request."""
    try:
        yield from events
    except AncestralError as error:
        yield event("error", {"error": str(error)})
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        yield event("error", {"error": "the memory is full: ask for fewer samples"})
