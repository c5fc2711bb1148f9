"""The server of the studio, bound to this machine only."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable

import uvicorn

from ancestral.app.progress import browse
from ancestral.app.web.app import create_app
from ancestral.app.web.studio import Studio
from ancestral.errors import AncestralError

PORT = 8765  # the first that is tried
TRIED = 20


def listen(port: int | None, host: str = "127.0.0.1") -> socket.socket:
    """Return a socket that listens at an address of this machine. port None: the first free one from `PORT` on.

    Raises:
        AncestralError: if no port is free, or the host is no address of this machine.
    """
    ports = range(PORT, PORT + TRIED) if port is None else [port]
    for number in ports:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError):
            raise AncestralError(f"{host!r} is no address of this machine: give one that is, or 127.0.0.1") from None
        found = socket.socket(family, kind, protocol)  # asyncio sends at once only where TCP is named: else answers take 40 ms
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(address)
            found.listen()  # at once, so that whoever reads the address can connect
        except OSError as error:
            found.close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise AncestralError(f"{host!r} is no address of this machine: give one that is, or 127.0.0.1") from None
            if error.errno == errno.EACCES:
                raise AncestralError(f"the port {number} is reserved for the system: choose another with --port") from None
            continue
        return found
    where = f"the port {port} is" if port is not None else f"the ports {PORT} to {PORT + TRIED - 1} are"
    raise AncestralError(f"{where} in use: choose another with --port")


def serve(studio: Studio, port: int | None, say: Callable[[str], None], *, browser: bool = True, page: str = "") -> None:
    """Serve the studio until Ctrl-C.

    Args:
        studio: the state.
        port: the port, or None for a free one.
        say: receives the address with the token.
        browser: whether a browser is opened.
        page: the fragment of the page, such as "#/lab".
    """
    with listen(port) as where:
        number = where.getsockname()[1]
        address = f"http://127.0.0.1:{number}/?token={studio.token}{page}"
        config = uvicorn.Config(create_app(studio, number), log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        say(address)
        if browser:
            threading.Timer(0.5, browse, (address,)).start()
        server.run(sockets=[where])
