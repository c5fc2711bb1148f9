"""A part of each kind is added in one file outside the package, which is not edited: Python and the commands know it."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral import registry
from ancestral.app.cli import main
from ancestral.app.sampling import Sweep
from ancestral.builtin import MEANINGS, listed, meanings
from ancestral.models import HasLatent

ROOT = Path(__file__).parents[1]
EXTENSIONS = ROOT / "tests" / "extensions"
SMALL = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16", "train.previews=0")


def added(path, limit):
    """The module of a file, which registers its part; it has at most `limit` lines of code."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= limit, f"{path.name} has {len(lines)} lines"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(*words):
    with pytest.raises(SystemExit) as done:
        main([str(word) for word in words])
    return done.value.code


@pytest.fixture(autouse=True)
def _own_names_and_folder(registered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("extend") / "run"
    an.train("digits", budget="2it", out=path, settings=SMALL, quiet=True)
    return path


def test_a_schedule():
    added(EXTENSIONS / "schedule.py", 15)
    settings = ("model.schedule=parabola", "model.width=16", "train.previews=0")
    model = an.train("moons", budget="3it", out="run", settings=settings, quiet=True)
    assert type(model.schedule).__name__ == "Parabola"
    assert an.load("run").sample(3, steps=3).isfinite().all()
    assert command("draw", "forward", "digits", "--schedule", "parabola", "--out", "way.png", "--quiet") == 0
    assert "parabola" in listed("schedule")
    with pytest.raises(an.UsageError, match=r"model.schedule: unknown schedule 'parabole': did you mean 'parabola'"):
        an.train("moons", budget="3it", out="other", settings=("model.schedule=parabole",), quiet=True)


def test_a_solver(run):
    added(ROOT / "examples" / "own_solver" / "own_solver.py", 25)
    x = an.load(run).sample(2, steps=3, solver="midpoint")
    assert x.isfinite().all()
    assert command("sample", run, "--solver", "midpoint", "--steps", 3, "-n", 2, "--out", "two.npz", "--quiet") == 0
    with np.load("two.npz") as stored:
        assert stored["x"].shape == (2, 1, 8, 8)


def test_a_condition():
    module = added(EXTENSIONS / "condition.py", 60)
    words = ("train", "digits", *SMALL, "--condition", "brightness", "--for", "3it", "--out", "run", "--quiet")
    assert command(*words) == 0
    model = an.load("run")
    assert isinstance(model.conditioner.kinds["brightness"], module.Brightness)
    x = model.sample(2, {"brightness": [0.2, 0.7]}, seeds=[0, 1], steps=3)
    assert x.isfinite().all()
    words = ("sample", "run", "--seeds", "0,1", "--condition", "brightness=0.3", "--steps", 3, "--out", "two.npz", "--quiet")
    assert command(*words) == 0
    with np.load("two.npz") as stored:
        same = model.sample(2, {"brightness": 0.3}, seeds=[0, 1], steps=3)
        assert np.abs(stored["x"] - torch.round(same * 16).numpy()).max() <= 1
    assert command("sample", "run", "--condition", "brightness", "--quiet") == 2
    words = ("sample", "run", "--sweep", "brightness=0:1:5", "-n", 2, "--steps", 3, "--quiet", "--out")
    assert command(*words, "strip.npz") == command(*words, "strip.png") == 0
    with np.load("strip.npz") as stored, Image.open("strip.png") as strip:
        assert strip.size[0] == 252  # 5 columns
        assert 102 < strip.size[1] < 152  # 2 rows and labels
        assert stored["seeds"].tolist() == [0] * 5 + [1] * 5
        values = torch.linspace(0, 1, 5).repeat(2)
        same = model.sample(10, {"brightness": values}, seeds=stored["seeds"].tolist(), steps=3)
        assert np.abs(stored["x"] - torch.round(same * 16).numpy()).max() <= 1
    for wrong, words in (("brightness=0:1", "cannot read the sweep"), ("brightness=0:1:1", "at least 2 values")):
        with pytest.raises(an.UsageError, match=words):
            Sweep.read(wrong)
    assert command("sample", "run", "--sweep", "size=0:1:5", "--quiet") == 2


def test_a_family():
    added(EXTENSIONS / "family.py", 150)
    assert command("train", "moons", "--model", "flow", "--for", "5it", "train.previews=0", "--out", "run", "--quiet") == 0
    model = an.load("run")
    assert isinstance(model, HasLatent)
    assert model.sample(5).shape == (5, 2)
    assert command("sample", "run", "-n", 5, "--out", "five.npz", "--quiet") == 0
    with pytest.raises(an.UsageError, match=r"flow for samples of shape .* take"):
        an.train("moons", model="flow", condition="class", budget="5it", out="other", quiet=True)


@pytest.mark.long
def test_a_plug_in_package(run, tmp_path):
    """The entry point is written as `pip install ./examples/own_solver` would write it."""
    facts = tmp_path / "own_solver-0.1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: own-solver\nVersion: 0.1.0\n")
    (facts / "entry_points.txt").write_text("[ancestral.plugins]\nmidpoint = own_solver\n")
    places = [tmp_path, ROOT / "examples" / "own_solver", Path(an.__file__).parents[1]]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places)), "COLUMNS": "200", "NO_COLOR": "1"}

    def call(*words):
        words = [sys.executable, "-m", "ancestral", *map(str, words)]
        return subprocess.run(words, capture_output=True, text=True, env=environment, check=False, timeout=120)

    help_text = " ".join(call("sample", "--help").stdout.replace("│", " ").split())
    assert "midpoint (second-order midpoint rule)" in help_text
    done = call("sample", run, "--solver", "midpoint", "--steps", 2, "-n", 2, "--out", tmp_path / "two.png")
    assert done.returncode == 0, done.stderr
    (tmp_path / "own_solver.py").write_text("raise OSError('no disk')")
    done = call("sample", run, "--solver", "midpoint", "-n", 2)
    assert done.returncode == 1
    assert "the plug-in 'midpoint' (own_solver) cannot be imported" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", MEANINGS)
def test_help_lists_what_is_registered(kind):
    """The table that help reads without torch and the registry of the loaded package say the same."""
    importlib.import_module("ancestral.app.evaluation")  # which registers extractors and baselines
    assert set(MEANINGS[kind]) == set(registry.names(kind))
    assert meanings(kind) == MEANINGS[kind]


def test_names_are_unique():
    an.register("solver", "own", "one")(int)
    an.register("solver", "own", "one")(int)
    with pytest.raises(ValueError, match="'own'"):
        an.register("solver", "own", "another")(float)
