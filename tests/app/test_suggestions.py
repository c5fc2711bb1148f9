"""The commands that a report suggests suit the run, and can be run as they stand."""

import shlex

import numpy as np
import pytest

import ancestral as an
from ancestral.app.suggestions import suggestions
from ancestral.app.training.run import Run

SETTINGS = ("model.channels=[8, 16]", "train.batch=16", "train.previews=0")


@pytest.fixture
def data():
    return np.random.default_rng(0).integers(0, 255, size=(40, 8, 8, 1), dtype=np.uint8)


def test_of_data_that_were_given_in_python_nothing_is_read_again(data, tmp_path):
    an.train(data, budget="2it", out=tmp_path / "a", device="cpu", quiet=True, settings=SETTINGS)
    assert [shlex.split(command)[1] for command, _ in suggestions(Run(tmp_path / "a"))] == ["sample", "tune", "studio"]


def test_paths_and_classes_are_quoted(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("my data.npz", x=data, y=np.array(["a cat", "dog"] * 20))
    an.train("my data.npz", budget="2it", out="my run", condition="class", device="cpu", quiet=True, settings=SETTINGS)
    commands = [shlex.split(command) for command, _ in suggestions(Run("my run"))]
    assert ["ancestral", "train", "my data.npz", "--for", "10it", "--out", "my run"] in commands
    assert ["ancestral", "sample", "my run", "--class", "a cat", "-n", "16"] in commands
    assert ["ancestral", "compare", "my data.npz"] in commands


def test_a_run_of_one_step_is_not_tuned(data, tmp_path):
    an.train(data, model="gan", budget="2it", out=tmp_path / "g", device="cpu", quiet=True, settings=("train.previews=0",))
    assert "tune" not in {shlex.split(command)[1] for command, _ in suggestions(Run(tmp_path / "g"))}
