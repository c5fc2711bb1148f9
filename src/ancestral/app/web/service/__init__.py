"""The service: trained models behind HTTP, for programs. It is the studio's server without pages."""

from ancestral.app.web.service.app import create_service, serve
from ancestral.app.web.service.state import Limits, Service

__all__ = ["Limits", "Service", "create_service", "serve"]
