"""`ancestral draw`, `sample --solver langevin` and `evaluate --likelihood` as people use them."""

import json

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def images(tmp_path_factory, command):
    """A finished DDPM of digits."""
    folder = tmp_path_factory.mktemp("runs") / "ddpm"
    words = ("model.schedule=ddpm", "model.target=eps", "model.times=uniform", "model.channels=[8, 16]", "train.previews=0")
    done = command("train", "digits", *words, "--for", "20it", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def points(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("runs") / "moons"
    words = ("model.width=16", "model.blocks=1", "train.batch=64", "train.previews=0")
    done = command("train", "moons", "--model", "score", *words, "--for", "20it", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_ddpm_samples_by_langevin_dynamics(images, tmp_path, command):
    done = command("sample", images, "-n", 4, "--steps", 5, "--solver", "langevin", "--out", tmp_path / "x.png", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nfe"] == 26


def test_likelihoods_have_units_terms_and_a_table(images, points, command):
    done = command("evaluate", images, "--likelihood", "-n", 10, "-q")
    assert done.returncode == 0, done.stderr
    for words in (
        "nats",
        "bits/dim",
        "vlb",
        "ode",
        "probability of levels",
        "density",
        "reconstruction",
        "consistency",
        "log SNR",
    ):
        assert words in done.stdout
    told = json.loads(command("evaluate", points, "--likelihood", "-n", 20, "--json").stdout)["likelihoods"]
    assert [figure["kind"] for figure in told] == ["vlb", "ode"]
    assert sum(nats for nats, _ in told[0]["terms"].values()) == pytest.approx(told[0]["nats"]["value"])
    assert -sum(told[0]["table"]["nats"]) == pytest.approx(told[0]["terms"]["consistency"][0])


@pytest.mark.parametrize(
    ("words", "frames"),
    [
        (("score", "gaussians", "--out", "strip.png"), 1),
        (("score", "moons", "--level", "0.3", "--out", "field.png"), 1),
        (("forward", "digits", "--schedule", "ddpm", "--out", "forward.png"), 1),
        (("forward", "moons", "--steps", "5", "--out", "forward.gif"), 5),
    ],
    ids=lambda w: "-".join(w[:2]) if isinstance(w, tuple) else "",
)
def test_drawings_that_need_no_run(tmp_path, words, frames, command):
    done = command("draw", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / words[-1]) as picture:
        assert getattr(picture, "n_frames", 1) == frames
        assert min(picture.size) > 100


def test_drawings_of_runs(tmp_path, images, points, command):
    for words in (
        ("score", points, "--level", "0.5", "--out", "field.png"),
        ("backward", points, "--steps", "4", "--out", "backward.gif"),
        ("backward", images, "--steps", "4", "--out", "backward.png"),
        ("between", images, "--rows", "3,7", "--out", "between.png"),
    ):
        done = command("draw", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / words[-1]) as picture:
            assert min(picture.size) > 30


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("score", "nowhere"), "does not exist"),
        (("score", "moons", "--level", "0"), "--level 0 is out of range"),
        (("forward", "moons", "--schedule", "cosin"), "did you mean 'cosine'"),
        (("score", "moons", "--out", "a.pdf"), "takes .png or .gif"),
    ],
)
def test_drawings_refuse_in_one_sentence(tmp_path, words, says, command):
    done = command("draw", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_score_is_of_points(images, command):
    done = command("draw", "score", images)
    assert done.returncode == 2
    assert "points in the plane" in done.stderr
