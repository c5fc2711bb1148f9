"""The guard of a server: who may ask, how much may be sent, and how long that may take.

A request needs the token, in the header `Authorization: Bearer TOKEN` or, for the studio, in a cookie that its first page sets.
A server of this machine answers only to its own names, so that no foreign name can be pointed at it, and what changes
something must come from the server's own pages.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost", "[::1]")
JSON_LIMIT = 64 << 20  # bytes of a request to the studio that is no upload
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'self'; form-action 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
LOCKED = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ancestral studio</title>
<body style="font:16px/1.5 system-ui;margin:15vh auto;max-width:32rem;padding:0 1rem">
<h1 style="font-size:1.3rem">This page is locked</h1>
<p>Open the address that <code>ancestral studio</code> printed in the terminal. It holds the token of this session.</p>
</body></html>"""

Body = Callable[[int, str], Mapping[str, Any]]  # the JSON of an error: (status, sentence) -> values


def sentence(status: int, error: str) -> Mapping[str, Any]:
    """Return the body of an error as the studio sends it."""
    return {"error": error}


class RefusedError(Exception):
    """A request whose body is larger or slower than allowed."""

    def __init__(self, status: int, error: str):
        super().__init__(error)
        self.status, self.error = status, error


class Guard:
    """ASGI middleware that admits requests with the token, and limits the size of bodies and the time they take to arrive.

    Args:
        app: the application.
        token: the token, None if all are admitted.
        local: whether requests must call the server by a name of this machine.
        port: the port of the server, None for any (in tests).
        limit: the largest number of bytes of a request, by its path.
        seconds: the longest time in which a body must arrive. None: any.
        free: paths that need no token.
        body: the JSON of an error.
    """

    unknown = "the token is missing or wrong: send it in the header `Authorization: Bearer TOKEN`"
    locked = 401  # the status of a request without the token

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        local: bool = True,
        port: int | None = None,
        limit: Callable[[str], int],
        seconds: float | None = None,
        free: Collection[str] = (),
        body: Body = sentence,
    ):
        self.app, self.token, self.local, self.port = app, token, local, port
        self.limit, self.seconds, self.free, self.body = limit, seconds, free, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is not admitted, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, _, port = headers.get("host", "").rpartition(":")
        if self.local and (host not in LOCAL or (self.port is not None and port != str(self.port))):
            await self._answer(send, 403, "this server answers only requests to this machine by its own name")
            return
        origin = headers.get("origin")
        if self.local and scope["method"] not in ("GET", "HEAD") and origin not in (None, f"http://{headers['host']}"):
            await self._answer(send, 403, "this request comes from another site")
            return
        if await self.entered(scope, send):
            return
        if scope["path"] not in self.free and not self.admits(headers):
            await self.refuse(scope, send)
            return
        await self._limited(scope, headers, receive, send)

    async def entered(self, scope: Scope, send: Send) -> bool:
        """Answer a request that only brings the token, and return True; or return False."""
        return False

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request has the token, or needs none."""
        kind, _, word = headers.get("authorization", "").partition(" ")
        return self.token is None or (kind.lower() == "bearer" and self.is_token(word))

    async def refuse(self, scope: Scope, send: Send) -> None:
        """Answer a request without the token."""
        await self._answer(send, self.locked, self.unknown, [(b"www-authenticate", b"Bearer")] * (self.locked == 401))

    def is_token(self, word: str | None) -> bool:
        """Return whether the word is the token, in a time that does not depend on the word."""
        return word is not None and self.token is not None and secrets.compare_digest(word.encode(), self.token.encode())

    async def _limited(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        limit = self.limit(scope["path"])
        large = f"this is larger than the limit of {limit / 1e6:,.6g} MB"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > limit:
            await self._answer(send, 413, large)
            return
        got, more, begun = 0, True, False
        refused: RefusedError | None = None
        end = None if self.seconds is None else asyncio.get_running_loop().time() + self.seconds

        async def limited() -> Message:
            nonlocal got, more, refused
            try:
                async with asyncio.timeout_at(end if more else None):
                    message = await receive()
            except TimeoutError:
                refused = RefusedError(408, f"the request did not arrive within {self.seconds:g} s")
                raise refused from None
            got += len(message.get("body", b""))
            more = more and message.get("more_body", False)
            if got > limit:
                refused = RefusedError(413, large)
                raise refused
            return message

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if refused is not None and not begun:  # what the application made of it is not sent
                return
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], *HEADERS]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append((b"cache-control", b"no-cache"))
            await send(message)

        with suppress(RefusedError):
            await self.app(scope, limited, with_headers)
        if refused is not None and not begun:
            await self._answer(send, refused.status, refused.error, [(b"connection", b"close")])

    async def _answer(self, send: Send, status: int, error: str, headers: Collection[tuple[bytes, bytes]] = ()) -> None:
        content = json.dumps(self.body(status, error)).encode()
        await send_whole(send, status, content, [(b"content-type", b"application/json"), *HEADERS, *headers])


class StudioGuard(Guard):
    """The guard of the studio's pages: its address brings the token once, and a cookie keeps it.

    Args:
        app: the application.
        token: the token.
        port: the port of the server, None for any (in tests).
        upload_limit: the largest number of bytes of a request under /api/uploads.
    """

    unknown = "the token is missing or wrong: open the address that `ancestral studio` printed"
    locked = 403

    def __init__(self, app: ASGIApp, token: str, port: int | None, upload_limit: int):
        def limit(path: str) -> int:
            return upload_limit if path.startswith("/api/uploads") else JSON_LIMIT

        super().__init__(app, token=token, port=port, limit=limit)
        self.cookie = f"ancestral-{port or 0}"

    async def entered(self, scope: Scope, send: Send) -> bool:
        """Turn the token of the first page's address into a cookie."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["path"] != "/" or not self.is_token(query.get("token")):
            return False
        rest = urlencode({name: value for name, value in query.items() if name != "token"})
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        location = f"/?{rest}" if rest else "/"
        await send_whole(send, 303, b"", [(b"location", location.encode()), (b"set-cookie", cookie.encode())])
        return True

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request has the token, in its header or in the cookie."""
        if super().admits(headers):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and self.is_token(morsel.value)

    async def refuse(self, scope: Scope, send: Send) -> None:
        """Answer a request without the token; in place of the first page by a page that says where the token is."""
        if scope["path"] == "/":
            headers = [(b"content-type", b"text/html; charset=utf-8"), *HEADERS]
            await send_whole(send, self.locked, LOCKED.encode(), headers)
        else:
            await super().refuse(scope, send)


def is_local(host: str) -> bool:
    """Return whether only this machine can reach a server at this address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def send_whole(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Send a response with its length."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
