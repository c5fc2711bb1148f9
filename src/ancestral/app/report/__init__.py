"""The report: one HTML file that holds all it shows, the same as Markdown, and the same as JSON."""

from ancestral.app.report.write import html, markdown, write

__all__ = ["html", "markdown", "write"]
