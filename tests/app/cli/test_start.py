"""The guided start asks three questions, and runs the commands that follow from the answers."""

import io

import numpy as np
import pytest

from ancestral.app.cli.start import commands


@pytest.fixture
def started(command, monkeypatch, tmp_path):
    """A function that runs `ancestral start` in an empty folder, with these lines as the input."""

    def run(*answers):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{answer}\n" for answer in answers)))
        return command("start", cwd=tmp_path)

    return run


def test_answers_become_commands():
    assert commands("digits", True, "1", "") == [
        ["train", "digits", "--condition", "class"],
        ["sample", "runs/digits"],
        ["report", "runs/digits"],
    ]
    assert commands("my pictures", False, "2", "5m") == [["compare", "my pictures", "--for", "5m"]]
    assert commands("real", True, "3", "fake.npz") == [["evaluate", "fake.npz", "--against", "real"]]


def test_a_model_is_trained_sampled_and_reported(started, tmp_path):
    done = started("moons", "", "4it")
    assert done.returncode == 0, done.stderr
    assert "$ ancestral train moons --for 4it --condition class\n" in done.stdout
    assert (tmp_path / "runs/moons/samples.png").is_file()
    assert (tmp_path / "runs/moons/report.html").is_file()


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
