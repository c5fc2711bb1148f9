"""Claims of the theory, computed in the build: `{claims} vae.` gives each its derivation, picture, both sides and code.

With `:summary:` they are rows of one table. `{sides}`vae.gap 2`` is a link to a claim, whose text is both sides in row 2 of its
table, counted from 0. What was computed is kept beside the drawn pictures, until the package changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from drawn import FOLDER, fingerprint
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from ancestral.app.theory import CLAIMS, HEADER, Claim, select
from ancestral.app.theory.pictures import draw

logger = logging.getLogger(__name__)


def computed(claim: Claim, folder: Path) -> dict[str, Any]:
    """Verdict and table of a claim, its picture as a file beside. Raises RuntimeError where it fails."""
    stored = folder / f"{claim.name}.json"
    if not stored.exists():
        folder.mkdir(parents=True, exist_ok=True)
        verdict = claim.verify()
        if not verdict.holds:
            raise RuntimeError(f"the claim {claim.name} fails: ancestral verify {claim.name}")
        if (picture := draw(verdict)) is not None:
            picture.save(folder / f"{claim.name}.png")
        stored.write_text(json.dumps({"drawn": picture is not None, "rows": [s.cells for s in verdict.sides]}))
        logger.info("computed %s in %.1f s", claim.name, verdict.seconds)
    results: dict[str, Any] = json.loads(stored.read_text())
    return results


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """In Markdown."""

    def line(row: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*").replace("`", "") for cell in row) + " |"

    return [line(header), "|" + "---|" * len(header), *(line(row) for row in rows), ""]


def anchor(name: str) -> str:
    return f"claim-{name.replace('.', '-')}"


def linked(function: Callable[..., Any]) -> str:
    """To its place in the reference; to that of its class where it has no words of its own."""
    owner = function.__qualname__.rpartition(".")[0]
    place = function.__qualname__ if function.__doc__ or not owner else owner
    return f"{{py:obj}}`{function.__qualname__} <{function.__module__}.{place}>`"


def derivation(claim: Claim) -> list[str]:
    """Its paragraphs, with the equations as they are written."""
    lines = []
    for block in claim.derivation.split("\n\n"):
        if block.startswith("    "):
            lines += ["```text", *(line[4:] for line in block.splitlines()), "```", ""]
        else:
            text = " ".join(block.split()).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
            lines += [text, ""]
    return lines


class Claims(SphinxDirective):
    optional_arguments = 1
    option_spec = {"summary": directives.flag}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        folder = root / FOLDER / fingerprint() / "claims"
        claims = select(self.arguments)
        parent = nodes.Element()
        lines = self.summary(claims, folder) if "summary" in self.options else self.each(claims, folder, root)
        self.state.nested_parse(StringList(lines, "claims"), self.content_offset, parent, match_titles=True)
        return parent.children

    def summary(self, claims: list[Claim], folder: Path) -> list[str]:
        rows = []
        for claim in claims:
            count = len(computed(claim, folder)["rows"])
            rows.append(f"| [{claim.name}](#{anchor(claim.name)}) | {claim.title.replace('|', chr(92) + '|')} | {count} |")
        return ["| claim | | comparisons |", "|---|---|---|", *rows, ""]

    def each(self, claims: list[Claim], folder: Path, root: Path) -> list[str]:
        lines = []
        for claim in claims:
            results = computed(claim, folder)
            title = claim.title.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
            lines += [f"({anchor(claim.name)})=", f"### {claim.name}", "", f"**{title}.**", "", *derivation(claim)]
            if results["drawn"]:
                picture = (folder / f"{claim.name}.png").relative_to(root)
                lines += [f"```{{image}} /{picture}", f":alt: both sides of {claim.name}", "```", ""]
            lines += table(HEADER, results["rows"])
            code = ", ".join(map(linked, claim.by))
            whole = f"{{py:func}}`{claim.compute.__module__}.{claim.compute.__qualname__}`"
            lines += [f"Source: {claim.source}. Computed by {code}; the claim itself is {whole}.", ""]
        return lines


class BothSides(SphinxRole):
    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        name, row = self.text.split()
        folder = Path(self.env.srcdir) / FOLDER / fingerprint() / "claims"
        _, left, relation, right, _, error, _ = computed(CLAIMS[name], folder)["rows"][int(row)]
        text = f"{left} {relation} {right}" + (f" ± {error}" if error else "")
        return [nodes.reference(self.rawtext, text, refid=anchor(name), internal=True)], []


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("claims", Claims)
    app.add_role("sides", BothSides())
    return {"parallel_read_safe": False, "parallel_write_safe": True}
