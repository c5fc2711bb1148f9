"""Sphinx configuration."""

import sys
from importlib.metadata import files
from pathlib import Path

from ancestral import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

# MathJax in one file, out of a package from PyPI: served from _static, fetched from nowhere
(mathjax,) = [file for file in files("sphinx-mathjax-offline") if file.match("mathjax/tex-svg.js")]

project = "ancestral"
copyright = "the ancestral authors"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "drawn",
    "gallery",
    "claims",
    "settings",
    "commands",
    "metrics",
    "reference",
    "links",
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_drawn", "_ext"]
smartquotes_action = "qe"  # two hyphens are an option, not a dash
html_theme = "furo"
html_title = "ancestral"
html_static_path = ["_static", str(mathjax.locate())]
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}
html_css_files = ["site.css"]
html_show_sphinx = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "separated"


def literal(app, what, name, obj, options, lines):
    """Docstrings are typeset as they are written: their equations are aligned text."""
    if lines:
        lines[:] = [".. code-block:: text", "", *(f"   {line}" for line in lines), ""]


def with_code(app):
    """The list of modules has only those with a page of code, which classes made by NamedTuple do not have."""
    modules = getattr(app.env, "_viewcode_modules", {})
    for name in [name for name, found in modules.items() if not found]:
        del modules[name]
    return []


def setup(app):
    app.connect("autodoc-process-docstring", literal)
    app.connect("html-collect-pages", with_code, priority=400)  # before the pages of code
