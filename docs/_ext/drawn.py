"""Pictures that the build draws: a directive whose content is the commands, or the Python, that writes the picture.

    ```{drawn} field.png
    :alt: the score of eight Gaussians
    ancestral draw score gaussians --out field.png
    ```

shows the commands and, below, what they drew. They run in this process, in one folder for all pictures, so that a run which
one of them trains serves the others. A picture is drawn again when its commands or the package have changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import time
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import ancestral

logger = logging.getLogger(__name__)
FOLDER = "_drawn"


def fingerprint() -> str:
    """Of the package's source."""
    digest = hashlib.sha256()
    for path in sorted(Path(ancestral.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def run(content: list[str], python: bool) -> None:
    """In the working directory. Raises RuntimeError for a command that fails."""
    if python:
        exec(compile("\n".join(content), "drawn", "exec"), {"__name__": "drawn"})
        return
    from ancestral.cli import main

    for line in filter(None, content):
        words = shlex.split(line, comments=True)
        try:
            main([*words[1:], "--quiet"])
        except SystemExit as done:
            if done.code:
                raise RuntimeError(f"`{line}` ended with {done.code}") from None


class Drawn(SphinxDirective):
    has_content = True
    required_arguments = 1
    option_spec = {"alt": directives.unchanged_required, "width": directives.unchanged, "python": directives.flag}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        name, content = self.arguments[0], list(self.content)
        python = "python" in self.options
        root = Path(self.env.srcdir) / FOLDER / fingerprint()
        work = root / "work"
        work.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256("\n".join([name, *content]).encode()).hexdigest()[:12]
        picture = root / f"{key}-{name}"
        if not picture.exists():
            begun = time.monotonic()
            with contextlib.chdir(work):
                run(content, python)
                os.replace(name, picture)
            logger.info("drew %s in %.1f s", name, time.monotonic() - begun)
        code = nodes.literal_block("\n".join(content), "\n".join(content), language="python" if python else "sh")
        image = nodes.image(uri=f"/{picture.relative_to(self.env.srcdir)}", alt=self.options.get("alt", name))
        if "width" in self.options:
            image["width"] = self.options["width"]
        return [code, image]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("drawn", Drawn)
    app.add_config_value("drawn_package", fingerprint(), "env")  # a change of the package reads every page again
    return {"parallel_read_safe": False, "parallel_write_safe": True}
