"""`sample --like` draws samples from what their file says, to the bit, and `--grid` over two settings."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import ancestral as an
from ancestral.app.cli import main
from ancestral.app.recipes.recipe import Recipe
from ancestral.app.sampling.provenance import read


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("again") / "digits"
    settings = ("model.width=16", "train.batch=16", "train.previews=0", "train.diagnoses=0")
    an.train("digits", budget="30it", out=out, condition="class", settings=settings, quiet=True)
    return out


def sample(*options):
    with pytest.raises(SystemExit) as ended:
        main(["sample", *map(str, options), "-q"])
    return ended.value.code


def pixels(path):
    with Image.open(path) as picture:
        return picture.mode, picture.size, picture.tobytes()


@pytest.mark.parametrize(
    "options",
    [
        ("--seed", 3, "-n", 4, "--steps", 4),
        ("--class", "2,7", "--guidance", 3, "--steps", 3, "--legend"),
        ("--grid", "guidance=0,2", "--grid", "class=1,5,9", "--steps", 3, "--seed", 2),
        ("--interpolate", "3,7,9", "--class", "4"),
    ],
)
def test_a_picture_is_drawn_again_to_the_bit(run, tmp_path, options):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    assert sample(run, *options, "--out", first) == 0
    assert sample(run, "--like", first, "--out", second) == 0
    assert pixels(first) == pixels(second)


def test_a_walk_is_drawn_again_as_a_film(run, tmp_path):
    """A film has the pictures of the walk in turn."""
    first, film = tmp_path / "first.png", tmp_path / "film.gif"
    assert sample(run, "--interpolate", "3,7", "--out", first) == 0
    assert sample(run, "--like", first, "--out", film) == 0
    with Image.open(film) as moving:
        assert moving.n_frames == 9
    assert sample(run, "--like", first, "--out", tmp_path / "walk.npz") == 2


def test_an_edit_is_drawn_again_without_its_files(run, tmp_path):
    given, first, second = tmp_path / "given.png", tmp_path / "first.png", tmp_path / "second.png"
    Image.linear_gradient("L").resize((8, 8)).save(given)
    assert sample(run, "--vary", given, "--strength", 0.6, "-n", 2, "--out", first) == 0
    given.unlink()
    assert sample(run, "--like", first, "--out", second) == 0
    assert pixels(first) == pixels(second)


def test_other_settings_are_refused(run, tmp_path, capsys):
    assert sample(run, "--steps", 3, "-n", 1, "--out", tmp_path / "a.png") == 0
    assert sample(run, "--like", tmp_path / "a.png", "--steps", 5) == 2
    assert "leave all other settings out" in capsys.readouterr().err
    assert sample(run, "--grid", "guidance=1", "--out", tmp_path / "b.png") == 2
    assert "a grid has two settings" in capsys.readouterr().err
    assert sample(run, "--grid", "guidance", "--grid", "steps=1", "--out", tmp_path / "b.png") == 2
    assert "NAME=VALUE" in capsys.readouterr().err


def test_a_file_of_one_sample_is_drawn_again_alone(run, tmp_path):
    """Of samples that take two classes in turn, the fourth is of the second class."""
    assert sample(run, "--class", "2,7", "--seeds", "8,9,3,11", "--steps", 3, "--out", tmp_path / "all") == 0
    assert sample(run, "--like", tmp_path / "all" / "11.png", "--out", tmp_path / "one.png") == 0
    assert pixels(tmp_path / "one.png") == pixels(tmp_path / "all" / "11.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.text["parameters"].startswith(
            "7\nSteps: 3, Sampler: dpmpp, Schedule type: logsnr, CFG scale: 1.5, Seed: 11"
        )


def test_an_array_is_drawn_again(run, tmp_path):
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    assert sample(run, "-n", 3, "--seed", 5, "--steps", 3, "--out", first) == 0
    assert sample(run, "--like", first, "--out", second) == 0
    with np.load(first) as a, np.load(second) as b:
        assert (a["x"] == b["x"]).all()
        assert a["ancestral"] == b["ancestral"]
    assert not any("not used" in note for note in an.load_data(first).notes)  # the record is known


def test_a_table_has_its_record_beside_it(tmp_path):
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    points = tmp_path / "points"
    an.train(x, model="vae", budget="5it", out=points, settings=("train.previews=0", "train.diagnoses=0"), quiet=True)
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    assert sample(points, "-n", 5, "--seed", 2, "--out", first) == 0
    assert sample(points, "--like", first, "--out", second) == 0
    assert first.read_bytes() == second.read_bytes()
    beside = json.loads((tmp_path / "first.csv-metadata.json").read_bytes())
    assert (beside["@context"], beside["url"]) == ("http://www.w3.org/ns/csvw", "first.csv")
    assert sample(points, "-n", 5, "--no-metadata", "--out", first) == 0
    assert not (tmp_path / "first.csv-metadata.json").exists()  # it was that of the table before
    assert sample("--like", first) == 2


def test_the_run_is_found_by_its_weights(run, tmp_path, monkeypatch, capsys):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    assert sample(run, "-n", 2, "--steps", 3, "--out", first) == 0
    copy = shutil.copytree(run, tmp_path / "here" / "runs" / "of another name")
    monkeypatch.chdir(tmp_path / "here")
    assert sample("--like", first, "--out", second) == 0
    assert pixels(first) == pixels(second)
    an.train("digits", out=copy, budget="31it", condition="class", quiet=True)
    assert sample("--like", first, "--out", second) == 2
    assert "neither beside it nor here: name the run's folder" in capsys.readouterr().err
    copy.rename(copy.with_name("digits"))
    assert sample("--like", first, "--out", second) == 2
    assert "other weights of" in capsys.readouterr().err
    assert sample() == 2
    assert "name the folder of a run" in capsys.readouterr().err


def test_a_record_has_each_default_of_the_sampler(run, tmp_path):
    """Then a later version with other defaults draws the same."""
    assert sample(run, "--class", "3", "-n", 1, "--out", tmp_path / "a.png") == 0
    found = read(tmp_path / "a.png", tmp_path).request
    assert (found.steps, found.solver, found.spacing, found.guidance.scale) == (20, "dpmpp", "logsnr", 1.5)
    assert sample(run, "-n", 1, "--out", tmp_path / "a.png") == 0
    assert read(tmp_path / "a.png", tmp_path).request.guidance.scale is None  # nothing is guided


def test_pictures_carry_the_mark_of_generated_media(run, tmp_path):
    mark = "http://cv.iptc.org/newscodes/digitalsourcetype/"
    assert sample(run, "-n", 1, "--steps", 3, "--out", tmp_path / "a.png") == 0
    assert f'"{mark}trainedAlgorithmicMedia"'.encode() in (tmp_path / "a.png").read_bytes()
    assert sample(run, "--vary", tmp_path / "a.png", "-n", 1, "--steps", 3, "--out", tmp_path / "b.png") == 0
    assert f'"{mark}compositeWithTrainedAlgorithmicMedia"'.encode() in (tmp_path / "b.png").read_bytes()
    assert sample(run, "--interpolate", "1,2", "--out", tmp_path / "c.png") == 0
    assert f'"{mark}trainedAlgorithmicMedia"'.encode() in (tmp_path / "c.png").read_bytes()
    assert sample(run, "-n", 1, "--steps", 3, "--no-metadata", "--out", tmp_path / "d.png") == 0
    with Image.open(tmp_path / "d.png") as picture:
        assert not picture.text


def test_weights_name_the_recipe(run):
    with safe_open(run / "model" / "model.safetensors", "pt") as stored:
        assert stored.metadata()["recipe"] == Recipe.load(run / "recipe.yaml").checksum()
