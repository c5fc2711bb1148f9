"""Sphinx configuration."""

from ancestral import __version__

project = "ancestral"
copyright = "the ancestral authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "ancestral"
html_math_renderer = "math_as_text"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "separated"


def literal(app, what, name, obj, options, lines):
    """Docstrings are typeset as they are written: their equations are aligned text."""
    if lines:
        lines[:] = ["::", "", *(f"   {line}" for line in lines), ""]


def setup(app):
    """Mathematics as its TeX source: readable, and nothing is fetched from anywhere."""
    app.connect("autodoc-process-docstring", literal)

    def visit(self, node):
        tag = "span" if node.tagname == "math" else "div"
        self.body.append(self.starttag(node, tag, "", CLASS="math"))
        self.body.append(self.encode(node.astext()))
        self.body.append(f"</{tag}>")
        from docutils.nodes import SkipNode

        raise SkipNode

    app.add_html_math_renderer("math_as_text", (visit, None), (visit, None))
