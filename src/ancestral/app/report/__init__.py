"""The report: one HTML file that holds all it shows, the same as Markdown, and the same as JSON."""

from ancestral.app.report.entry import Entry
from ancestral.app.report.write import html, markdown, write

__all__ = ["Entry", "html", "markdown", "write"]
