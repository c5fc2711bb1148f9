"""Files of the documentation that its build does not make: notebooks, which are the scripts of today and ran, and a film."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ancestral as an

ROOT = Path(__file__).parents[1]
SHOWING = {"own_folder": 4, "control": 3}  # pictures at least


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def notebooks():
    return script("notebooks")


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
    assert all(output.output_type == "stream" or list(output.data) == ["image/png", "text/plain"] for output in outputs)
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


def test_the_moving_picture_ends_at_the_samples(tmp_path, capsys):
    """The last frame has the samples of the seeds, a tile for each; points share the row with signals."""
    module = script("from_noise")
    small = {"device": "cpu", "quiet": True, "settings": ("train.previews=0", "train.batch=16")}
    of_pictures = (*small["settings"], "model.channels=[8, 16]")
    an.train("digits", budget="2it", condition="class", out=tmp_path / "d", **small | {"settings": of_pictures})
    an.train("moons", budget="2it", out=tmp_path / "m", **small)
    swings = np.sin(np.linspace(0, 6, 32) + np.arange(40)[:, None, None]).astype(np.float32)
    an.train(swings, budget="2it", out=tmp_path / "s", **small | {"settings": of_pictures})
    out = tmp_path / "film.webp"
    module.main([f"digits={tmp_path / 'd'}", f"points, signals={tmp_path / 'm'},{tmp_path / 's'}"], out, seed=5)
    assert "29 frames" in capsys.readouterr().out
    film = Image.open(out)
    film.seek(film.n_frames - 1)
    last = np.asarray(film.convert("L"), float)
    side, gap = module.TILE, module.GAP
    assert last.shape == (2 * (side + gap), module.LABEL + 8 * (side + gap))
    model = an.load(tmp_path / "d")
    x = model.sample(8, {"class": list(range(8))}, seeds=range(5, 13), steps=module.STEPS)
    for i, image in enumerate(x):
        tile = last[:side, module.LABEL + i * (side + gap) :][:, :side]
        expected = Image.fromarray((image[0].clamp(0, 1) * 255).byte().numpy()).resize((side, side), Image.Resampling.BICUBIC)
        assert np.abs(tile - np.asarray(expected, float)).mean() < 6  # WebP is lossy
