"""The report of a comparison: one self-contained HTML file, and the same as Markdown and JSON."""

from ancestral.app.report.write import html, markdown, write

__all__ = ["html", "markdown", "write"]
