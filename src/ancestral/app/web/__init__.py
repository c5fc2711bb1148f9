"""The studio: a local web page and its API, for people who would rather look than read."""

from ancestral.app.web.app import create_app
from ancestral.app.web.studio import Studio

__all__ = ["Studio", "create_app"]
