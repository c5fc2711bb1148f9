"""A run finds its data wherever the command starts, and after they have moved."""

import json
import shutil

import numpy as np
import pytest

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.cli import main
from ancestral.app.evaluate import data_of
from ancestral.app.training.run import Run
from ancestral.errors import AncestralError, UsageError

SMALL = ("model.width=8", "model.blocks=1", "train.batch=16", "train.previews=0")


def begin(source, out, budget="2it", **options):
    trainer = plan(source, budget=budget, out=out, settings=SMALL, **options).begin()
    for _ in trainer:
        pass
    return trainer


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data and a run of them, which was trained with relative paths. It is the current folder."""
    (tmp_path / "work" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    np.save("data/points.npy", np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32))
    begin("data/points.npy", "runs/points")
    return tmp_path / "work"


def test_data_are_found_from_another_folder(place, monkeypatch):
    monkeypatch.chdir(place / "runs")
    assert len(data_of(Run("points")).train) == 54
    again = begin("../data/points.npy", "points")  # the same data under another path
    assert again.step == 2
    monkeypatch.chdir(place.parent)
    assert len(data_of(Run(place / "runs" / "points")).train) == 54


def test_a_run_moves_with_its_data_or_alone(place, monkeypatch):
    monkeypatch.chdir(place.parent)
    shutil.move(place / "runs" / "points", "alone")
    assert len(data_of(Run("alone")).train) == 54
    shutil.move("alone", place / "runs" / "points")
    shutil.move(place, "elsewhere")
    assert len(data_of(Run("elsewhere/runs/points")).train) == 54


def test_moved_data_are_named_and_their_new_place_is_stored(place):
    shutil.move("data/points.npy", "moved.npy")
    with pytest.raises(AncestralError) as error:
        data_of(Run("runs/points"))
    assert str(place / "data" / "points.npy") in str(error.value)
    assert "`ancestral train SOURCE --out runs/points`" in str(error.value)
    begin("moved.npy", "runs/points")
    assert len(data_of(Run("runs/points")).train) == 54
    assert Run("runs/points").recipe.data.source == "moved.npy"
    assert Run("runs/points").spec.size == 54


def test_other_data_at_the_place_are_refused(place):
    np.save("data/points.npy", np.ones((60, 2), np.float32) * np.arange(60)[:, None])
    with pytest.raises(AncestralError, match=r"have changed since it was trained: restore them$"):
        data_of(Run("runs/points"))
    np.save("other.npy", np.ones((60, 2), np.float32) * np.arange(60)[:, None])
    before = Run("runs/points").recipe_file.read_bytes()
    with pytest.raises(UsageError, match=r"another recipe \(data.source: data/points.npy -> other.npy"):
        begin("other.npy", "runs/points")
    shutil.copy("data/points.npy", "other.npy")
    with pytest.raises(UsageError, match=r"another recipe"):
        plan("other.npy", out="runs/points", settings=(*SMALL, "train.lr=1")).begin()
    assert Run("runs/points").recipe_file.read_bytes() == before


def test_evaluation_without_the_data_compares_with_others_as_the_message_says(place, capsys):
    shutil.move("data/points.npy", "moved.npy")
    with pytest.raises(SystemExit):
        main(["report", "runs/points", "-n", "25", "-q"])
    assert "or compare with other data: --against SOURCE" in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        main(["report", "runs/points", "-n", "25", "--against", "moved.npy", "--json"])
    assert done.value.code == 0
    assert (place / json.loads(capsys.readouterr().out)["report"]).is_file()


def test_data_from_python_are_named_as_such_and_can_be_saved(place):
    x = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    begin(x, "runs/array")
    with pytest.raises(AncestralError, match=r"were given in Python.*`ancestral train SOURCE --out runs/array`"):
        data_of(Run("runs/array"))
    np.save("x.npy", x)
    begin("x.npy", "runs/array")
    assert len(data_of(Run("runs/array")).train) == 54
    begin(x, "runs/array", "3it")  # which does not forget the file
    assert len(data_of(Run("runs/array")).train) == 54


def test_a_file_with_the_name_of_a_built_in_set_is_not_taken_for_it(place):
    shutil.copytree("data", "moons")
    shutil.move("moons/points.npy", "digits.npy")
    begin("./digits.npy", "runs/file")
    assert Run("runs/file").sources == [str(place / "digits.npy")]
    assert begin("moons", "runs/moons").data.spec.size > 54
    assert Run("runs/moons").sources == ["moons"]
    with pytest.raises(AncestralError, match="no image"):  # the folder, which is empty
        begin("./moons", "runs/folder")


def test_a_run_of_an_earlier_version_names_its_source_only(place):
    file = Run("runs/points").model / "config.json"
    config = json.loads(file.read_text())
    del config["source"], config["checksum"]
    file.write_text(json.dumps(config))
    assert len(data_of(Run("runs/points")).train) == 54


def test_a_continued_run_needs_the_run_that_it_started_from_no_longer(place, monkeypatch):
    begin("data/points.npy", "runs/tuned", start_from="runs/points")
    shutil.rmtree("runs/points")
    monkeypatch.chdir(place / "data")
    longer = begin("points.npy", "../runs/tuned", "4it", start_from="../runs/points")
    assert longer.step == 4
    an.load("../runs/tuned")
