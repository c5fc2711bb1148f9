"""`sample --again` draws a picture from what its PNG says, to the bit, and `--grid` over two settings."""

import pytest
from PIL import Image

import ancestral as an
from ancestral.app.cli import main


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
    ],
)
def test_a_picture_is_drawn_again_to_the_bit(run, tmp_path, options):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    assert sample(run, *options, "--out", first) == 0
    assert sample(run, "--again", first, "--out", second) == 0
    assert pixels(first) == pixels(second)


def test_an_edit_is_drawn_again_without_its_files(run, tmp_path):
    given, first, second = tmp_path / "given.png", tmp_path / "first.png", tmp_path / "second.png"
    Image.linear_gradient("L").resize((8, 8)).save(given)
    assert sample(run, "--vary", given, "--strength", 0.6, "-n", 2, "--out", first) == 0
    given.unlink()
    assert sample(run, "--again", first, "--out", second) == 0
    assert pixels(first) == pixels(second)


def test_other_settings_are_refused(run, tmp_path, capsys):
    assert sample(run, "--steps", 3, "-n", 1, "--out", tmp_path / "a.png") == 0
    assert sample(run, "--again", tmp_path / "a.png", "--steps", 5) == 2
    assert "leave all other settings out" in capsys.readouterr().err
    assert sample(run, "--grid", "guidance=1", "--out", tmp_path / "b.png") == 2
    assert "a grid has two settings" in capsys.readouterr().err
    assert sample(run, "--grid", "guidance", "--grid", "steps=1", "--out", tmp_path / "b.png") == 2
    assert "NAME=VALUE" in capsys.readouterr().err
