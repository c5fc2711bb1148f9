"""Mathematics as MathML, made in the build by docutils: nothing is fetched, no script runs in the reader's browser."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
FRACTION = re.compile(r"(\\[td]?frac)\s*(\d)\s*(\d)")  # \tfrac12, whose digits docutils takes for one number


def convert(tex: str, block: bool) -> str:
    """The MathML of a formula. Raises MathError for what docutils does not know."""
    return str(latex2mathml.tex2mathml(FRACTION.sub(r"\1{\2}{\3}", tex), as_block=block))


def visit(self, node: nodes.Element) -> None:
    block = isinstance(node, nodes.math_block)
    try:
        formula = convert(node.astext(), block)
    except MathError as error:
        logger.warning("no MathML of %s: %s", node.astext(), error, location=node)
        formula = self.encode(node.astext())
    self.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
