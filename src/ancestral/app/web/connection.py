"""Connections that end if a client sends the head of a request too slowly, or does not take what it was sent.

uvicorn closes a connection that is idle between two requests, but waits for ever within a head and within an answer.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """A connection that is aborted after some seconds in which a head does not arrive, or the client takes nothing."""

    patience = 20.0  # seconds
    _head: asyncio.TimerHandle | None = None
    _answer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = self.loop.call_later(self.patience, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # the head is here, and the guard times the body
            self._stop_head()
        elif self._head is None:
            self._head = self.loop.call_later(self.patience, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head()
        self._stop_answer()
        super().connection_lost(exc)

    def _stop_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _stop_answer(self) -> None:
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None


def connection(seconds: float) -> type[Connection]:
    """Return the protocol of connections with this patience, for `uvicorn.Config(http=...)`."""
    return type("Connection", (Connection,), {"patience": seconds})
