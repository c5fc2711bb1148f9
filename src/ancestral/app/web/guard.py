"""The guard of the server: who may ask, and how much may be sent.

A request needs the token, in a cookie that the first page sets or in the header `Authorization: Bearer TOKEN`. Its host must be
this machine, so that no foreign name can be pointed here, and what changes something must come from the server's own pages.
"""

from __future__ import annotations

import json
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost", "[::1]")
JSON_LIMIT = 64 << 20  # bytes of a request that is no upload
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


class TooLargeError(Exception):
    """A request that is larger than its limit."""


class Guard:
    """ASGI middleware that admits requests with the token from this machine, and limits their size.

    Args:
        app: the application.
        token: the token.
        port: the port of the server, None for any (in tests).
        upload_limit: the largest number of bytes of a request under /api/uploads.
    """

    def __init__(self, app: ASGIApp, token: str, port: int | None, upload_limit: int):
        self.app, self.token, self.port, self.upload_limit = app, token, port, upload_limit
        self.cookie = f"ancestral-{port or 0}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is not admitted, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        host, _, port = headers.get("host", "").rpartition(":")
        if host not in LOCAL or (self.port is not None and port != str(self.port)):
            await _answer(send, 403, "this server answers only requests to this machine by its own name")
            return
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None and origin != f"http://{headers['host']}":
            await _answer(send, 403, "this request comes from another site")
            return
        if scope["path"] == "/" and self._is_token(query.get("token")):
            rest = urlencode({name: value for name, value in query.items() if name != "token"})
            cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            location = f"/?{rest}" if rest else "/"
            await _send(send, 303, b"", [(b"location", location.encode()), (b"set-cookie", cookie.encode())])
            return
        if not self._admitted(headers):
            if scope["path"] == "/":
                await _send(send, 403, LOCKED.encode(), [(b"content-type", b"text/html; charset=utf-8"), *HEADERS])
            else:
                await _answer(send, 403, "the token is missing or wrong: open the address that `ancestral studio` printed")
            return
        limit = self.upload_limit if scope["path"].startswith("/api/uploads") else JSON_LIMIT
        if int(headers.get("content-length") or 0) > limit:
            await _answer(send, 413, f"this is larger than the limit of {limit / 1e9:.2g} GB")
            return
        got = 0

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > limit:
                raise TooLargeError
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append((b"cache-control", b"no-cache"))
            await send(message)

        try:
            await self.app(scope, limited, with_headers)
        except TooLargeError:
            await _answer(send, 413, f"this is larger than the limit of {limit / 1e9:.2g} GB")

    def _admitted(self, headers: dict[str, str]) -> bool:
        kind, _, word = headers.get("authorization", "").partition(" ")
        if kind == "Bearer" and self._is_token(word):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and self._is_token(morsel.value)

    def _is_token(self, word: str | None) -> bool:
        return word is not None and secrets.compare_digest(word.encode(), self.token.encode())


async def _answer(send: Send, status: int, error: str) -> None:
    await _send(send, status, json.dumps({"error": error}).encode(), [(b"content-type", b"application/json"), *HEADERS])


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
