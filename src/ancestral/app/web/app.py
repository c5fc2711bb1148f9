"""The application: the API, the pages, and the guard before both."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from ancestral.app.web import lab, runs, samples, uploads
from ancestral.app.web.errors import answer_errors
from ancestral.app.web.guard import StudioGuard
from ancestral.app.web.studio import UPLOAD_LIMIT, Studio
from ancestral.version import __version__

STATIC = Path(__file__).parent / "static"
PAUSE = 2.0  # seconds between looks at the queue, so that it goes on without a page


def create_app(studio: Studio, port: int | None = None, upload_limit: int = UPLOAD_LIMIT) -> FastAPI:
    """Return the application of a studio.

    Args:
        studio: the state.
        port: the port of the server, which a request must name. None: any.
        upload_limit: the largest upload in bytes.
    """
    mimetypes.add_type("text/javascript", ".js")  # some systems know another type, and browsers refuse it for modules

    @asynccontextmanager
    async def watched(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_watch(studio))
        yield
        task.cancel()

    about_api: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": "/api/openapi.json"}
    app = FastAPI(title="ancestral studio", version=__version__, lifespan=watched, **about_api)
    for routes in (runs, uploads, samples, lab):
        app.include_router(routes.router(studio))

    @app.get("/api/about")
    def about() -> dict[str, object]:
        return {"version": __version__, "folders": [str(folder) for folder in studio.folders], "home": str(studio.home)}

    @app.get("/plotly.js")
    def plotly() -> FileResponse:
        import plotly as package

        return FileResponse(
            Path(package.__file__).parent / "package_data" / "plotly.min.js",
            media_type="text/javascript",
            headers={"cache-control": "private, max-age=86400"},
        )

    answer_errors(app)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    app.add_middleware(StudioGuard, token=studio.token, port=port, upload_limit=upload_limit)
    return app


async def _watch(studio: Studio) -> None:
    """Start the next training of the queue whenever one has ended."""
    while True:
        await asyncio.to_thread(studio.queue.tick)
        await asyncio.sleep(PAUSE)
