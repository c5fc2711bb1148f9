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
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_drawn", "_ext"]
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


def setup(app):
    app.connect("autodoc-process-docstring", literal)
