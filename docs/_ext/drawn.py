"""Pictures that the build draws and words that it prints: directives whose content is the commands, or the Python, behind them.

    ```{drawn} field.png
    :alt: the score of eight Gaussians
    ancestral draw score gaussians --out field.png
    ```

shows the commands and, below, what they drew: with `:above:` the picture first, with `:alone:` no commands. `{printed}` shows
what they print, with `:code: 1` where they end so. They run in this process, in one folder for all, so that a run which one of
them trains serves the others. All is made again when the commands, the package, except its web pages, the
examples, or the stored results of benchmarks change.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import runpy
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
ROOT = Path(__file__).parents[2]


@functools.cache
def fingerprint() -> str:
    """Return a digest of the source of the package and of the examples, and of stored results, taken when the build begins.

    The web pages are left out: only `ancestral studio` and `ancestral serve` import them, which draw no picture here.
    """
    digest, package = hashlib.sha256(), Path(ancestral.__file__).parent
    figures = [ROOT / "docs" / "_ext" / "results.py", *(ROOT / "benchmarks" / "results").iterdir()]
    for path in sorted([*package.rglob("*.py"), *(ROOT / "examples").rglob("*.py"), *figures]):
        if package / "app" / "web" not in path.parents:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def run(content: list[str], python: bool, quiet: bool = True, code: int = 0) -> None:
    """In the working directory. Raises RuntimeError for a command that does not end with that code."""
    if python:
        exec(compile("\n".join(content), "drawn", "exec"), {"__name__": "drawn"})
        return
    from ancestral.app.cli import main

    for line in filter(None, "\n".join(content).replace("\\\n", " ").splitlines()):
        words = shlex.split(line, comments=True)
        if words[0] == "python":
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
            continue
        try:
            main([*words[1:], *(["--quiet"] if quiet else [])])
        except SystemExit as done:
            if (done.code or 0) != code:
                raise RuntimeError(f"`{line}` ended with {done.code}") from None


def places(directive: SphinxDirective) -> tuple[Path, Path]:
    """Return the folder of the results and the folder in which commands run."""
    root = Path(directive.env.srcdir) / FOLDER / fingerprint()
    work = root / "work"
    work.mkdir(parents=True, exist_ok=True)
    return root, work


def key(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


class Drawn(SphinxDirective):
    has_content = True
    required_arguments = 1
    flags = dict.fromkeys(("python", "above", "alone"), directives.flag)
    option_spec = {"alt": directives.unchanged_required, "width": directives.unchanged, **flags}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        name, content = self.arguments[0], list(self.content)
        python = "python" in self.options
        root, work = places(self)
        picture = root / f"{key(name, *content)}-{name}"
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
        if "alone" in self.options:
            return [image]
        return [image, code] if "above" in self.options else [code, image]


class Printed(SphinxDirective):
    has_content = True
    option_spec = {"code": directives.nonnegative_int}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        content = list(self.content)
        root, work = places(self)
        kept = root / f"{key(*content)}.txt"
        if not kept.exists():
            begun, said = time.monotonic(), io.StringIO()
            with contextlib.chdir(work), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                run(content, False, quiet=False, code=self.options.get("code", 0))
            kept.write_text(said.getvalue().strip())
            logger.info("printed %s in %.1f s", content[0], time.monotonic() - begun)
        commands = nodes.literal_block("\n".join(content), "\n".join(content), language="sh")
        return [commands, nodes.literal_block("", kept.read_text(), language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("drawn", Drawn)
    app.add_directive("printed", Printed)
    app.add_config_value("drawn_package", fingerprint(), "env")  # a change of the package reads every page again
    return {"parallel_read_safe": False, "parallel_write_safe": True}
