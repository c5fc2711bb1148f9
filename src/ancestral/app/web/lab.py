"""The API of the lab."""

from __future__ import annotations

from fastapi import APIRouter

from ancestral.app.web.studio import Studio


def router(studio: Studio) -> APIRouter:
    """Return the routes of the lab."""
    return APIRouter(prefix="/api/lab")
