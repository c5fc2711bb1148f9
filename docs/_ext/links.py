"""Check that all files and anchors that the built pages name exist: links, pictures, scripts. What is missing is a warning."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


class Page(HTMLParser):
    """The anchors of a page, and the addresses that it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.named: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if value and (key == "id" or (key == "name" and tag == "a")):
                self.anchors.add(value)
            elif value and key in ("href", "src"):
                self.named.add(value)


def missing(folder: Path) -> list[str]:
    """Return a line for each address within the folder of built pages that leads to no file or to no anchor."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html") if "_static" not in path.parts
    }
    found = []
    for path, page in sorted(pages.items()):
        for address in sorted(page.named):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists():
                found.append(f"{path.name}: {address} does not exist")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{path.name}: {address} has no such anchor")
    return found


def check(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        for line in missing(Path(app.outdir)):
            logger.warning(line)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
