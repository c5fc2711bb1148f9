"""The server of the studio, bound to this machine only."""

from __future__ import annotations

import socket
import threading
import webbrowser
from collections.abc import Callable

import uvicorn

from ancestral.app.web.app import create_app
from ancestral.app.web.studio import Studio
from ancestral.errors import AncestralError

PORT = 8765  # the first that is tried
TRIED = 20


def listen(port: int | None) -> socket.socket:
    """Return a socket on the loopback device. port None: the first free one from `PORT` on.

    Raises:
        AncestralError: if no port is free.
    """
    ports = range(PORT, PORT + TRIED) if port is None else [port]
    for number in ports:
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", number))
        except OSError:
            found.close()
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
            threading.Timer(0.5, webbrowser.open, (address,)).start()
        server.run(sockets=[where])
