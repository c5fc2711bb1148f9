"""The notebooks of the tutorials are made from the scripts of today, and each ran to its end."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHOWING = {"own_folder": 4, "control": 3}  # pictures at least


@pytest.fixture(scope="module")
def notebooks():
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "_ext" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["notebooks"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["own_folder", "choose_family", "collapse", "likelihoods", "few_steps", "control"])
def test_a_notebook_is_its_script_and_has_run(notebooks, name):
    import nbformat

    found = nbformat.read(ROOT / "docs" / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(found)
    made = notebooks.notebook(name)
    assert [(c.cell_type, c.source) for c in found.cells] == [(c.cell_type, c.source) for c in made.cells], (
        f"{name}: run `python docs/_ext/notebooks.py {name}`"
    )
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert all(output.output_type in ("stream", "display_data") for output in outputs)
    assert any(output.output_type == "stream" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= SHOWING.get(name, 0)


def test_every_tutorial_has_one(notebooks):
    pages = [page.read_text() for page in (ROOT / "docs").glob("tutorial-*.md")]
    assert len(pages) == len(notebooks.SETTINGS)
    for name in notebooks.SETTINGS:
        assert any(f"examples/{name}.py" in page and f"notebooks/{name}.ipynb" in page for page in pages)


def test_a_badge_needs_a_repository(notebooks, monkeypatch):
    assert "colab" not in "".join(cell.source for cell in notebooks.notebook("collapse").cells)
    monkeypatch.setattr(notebooks, "repository", lambda: "https://github.com/somebody/ancestral")
    badge, install = notebooks.notebook("collapse").cells[1:3]
    assert "colab.research.google.com/github/somebody/ancestral/blob/main/docs/notebooks/collapse.ipynb" in badge.source
    assert install.source == "%pip install --quiet git+https://github.com/somebody/ancestral"
