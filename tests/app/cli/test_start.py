"""The guided start asks three questions, and runs the commands that follow from the answers."""

import io

import numpy as np
import pytest
from PIL import Image

from ancestral.app.cli.start import USUAL, commands


@pytest.fixture
def started(command, monkeypatch, tmp_path):
    """A function that runs `ancestral start` in an empty folder, with these lines as the input."""

    def run(*answers):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
        return command("start", cwd=tmp_path)

    return run


def test_answers_become_commands(tmp_path, monkeypatch):
    """A finished folder is left alone, and few held-out samples are no reference."""
    monkeypatch.chdir(tmp_path)
    assert commands("digits", True, 100, "1", USUAL) == [
        ["train", "digits", "--condition", "class", "--out", "runs/digits"],
        ["sample", "runs/digits"],
        ["report", "runs/digits"],
    ]
    for taken in ("mine", "mine-2", "compare-mine"):
        (tmp_path / "runs" / taken).mkdir(parents=True)
    assert commands("my/mine", False, 19, "1", "5m") == [
        ["train", "my/mine", "--for", "5m", "--out", "runs/mine-3"],
        ["sample", "runs/mine-3"],
        ["report", "runs/mine-3", "--against", "train"],
    ]
    assert commands("my/mine", False, 20, "2", USUAL) == [["compare", "my/mine", "--out", "runs/compare-mine-2"]]
    assert commands("real", True, 100, "3", "fake.npz") == [["evaluate", "fake.npz", "--against", "real"]]


def test_a_model_of_few_pictures_is_trained_sampled_and_reported(started, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i, picture in enumerate(np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)):
        Image.fromarray(picture).save(pictures / f"{i}.png")
    done = started("pictures", "", "2it")
    assert done.returncode == 0, done.stderr
    assert "54 samples of 1x8x8, and 6 held out" in done.stdout
    assert "$ ancestral train pictures --for 2it --out runs/pictures\n" in done.stdout
    assert (tmp_path / "runs/pictures/samples.png").is_file()
    assert (tmp_path / "runs/pictures/report.html").is_file()


def test_an_answer_that_cannot_be_read_is_asked_for_again(started, tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(100, 2)))
    done = started("mons", "moons", "4", "3", "not-there.npy", "mine.npy")
    assert done.returncode == 0, done.stderr
    for sentence in ("did you mean 'moons'?", "found '4': answer 1, 2 or 3", "there is no file or folder 'not-there.npy'"):
        assert sentence in done.stdout
    assert "$ ancestral evaluate mine.npy --against moons\n" in done.stdout


@pytest.mark.parametrize("answers", [(), ("moons",), ("moons", "1"), ("moons", "1", "soon")])
def test_without_answers_nothing_is_begun(started, tmp_path, answers):
    done = started(*answers)
    assert done.returncode == 2
    assert "the input ended before the questions were answered" in done.stderr
    assert not any(tmp_path.iterdir())
