"""Pictures of latent spaces, and what `info` says of a VAE."""

import json

import numpy as np
import pytest
from PIL import Image

SMALL = ["model.width=8", "train.batch=16", "train.previews=1", "train.diagnoses=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    done = command("train", "digits", "--model", "vae", *SMALL, "--for", "30it", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "likelihood of uint8 data: Gaussian" in done.stderr
    assert "elbo" in done.stderr
    return folder


def test_both_bounds_of_a_vae_are_printed_and_more_draws_are_tighter(run, command):
    told = json.loads(command("evaluate", run, "--likelihood", "-n", 20, "--json").stdout)["likelihoods"]
    assert [figure["kind"] for figure in told] == ["elbo", "iwae"]
    elbo, iwae = (figure["nats"]["value"] for figure in told)
    assert elbo < iwae


def size(path):
    with Image.open(path) as picture:
        return picture.size


def labelled(path, columns, rows, above=12):
    """Whether a picture has the tiles, room for labels to their left, and that many pixels above them."""
    width, height = size(path)
    return width > columns * TILE + 2 and height == rows * TILE + 2 + above


TILE = 50  # pixels of a digit and its gap


def test_pictures(run, tmp_path, command):
    done = command("sample", run, "--interpolate", "3,7,9", "--json")
    assert done.returncode == 0, done.stderr
    assert labelled(json.loads(done.stdout)["out"], 9, 2)
    assert command("sample", run, "--seeds", "3,7", "--out", tmp_path / "ends.png").returncode == 0
    with Image.open(tmp_path / "ends.png") as ends, Image.open(run / "interpolation.png") as way:
        left, top = way.width - 9 * TILE - 2, way.height - 2 * TILE - 2
        ends, way = np.asarray(ends).astype(int), np.asarray(way.convert("L")).astype(int)[top:, left:]
    assert abs(ends[2:50, 2:50] - way[2:50, 2:50]).max() <= 1, "the way begins at the sample of its seed"
    assert abs(ends[2:50, 52:100] - way[2:50, 402:450]).max() <= 1
    assert command("sample", run, "--traverse", "--seed", 5, "--out", tmp_path / "axes.png").returncode == 0
    assert labelled(tmp_path / "axes.png", 9, 8)
    assert command("sample", run, "--latent-map").returncode == 0
    assert size(run / "latent-map.png")[0] > 300
    done = command("sample", run, "--reconstruct", "digits", "-n", 16)
    assert "root mean squared error" in done.stderr
    assert labelled(run / "reconstruction.png", 8, 4, above=0)
    done = command("sample", run, "-n", 4, "--prior", "standard", "--observe", "draw", "--out", tmp_path / "x.npz")
    assert done.returncode == 0, done.stderr


def test_a_folder_is_reconstructed(run, tmp_path, command):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(5):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{i}.png")
    done = command("sample", run, "--reconstruct", tmp_path / "images", "--out", tmp_path / "back.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back.png").exists()


def test_info_shows_health(run, command):
    text = command("info", run).stdout
    for words in ("vae", "health", "elbo", "active", "kl each", "loss per dimension"):
        assert words in text
    facts = json.loads(command("info", run, "--json").stdout)
    assert {"elbo", "kl", "active", "information", "kl/0"} <= facts["health"].keys()
    assert isinstance(facts["findings"], list)


def test_two_latents_are_mapped_by_a_grid(tmp_path, command):
    folder = tmp_path / "run"
    done = command("train", "digits", "--model", "vae", *SMALL, "model.latent=2", "--for", "3it", "--out", folder, "-q")
    assert done.returncode == 0, done.stderr
    assert command("sample", folder, "--latent-map").returncode == 0
    assert labelled(folder / "latent-map.png", 15, 15)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--interpolate", "3,7", "--traverse"], "give one at a time"),
        (["--interpolate", "3"], "needs at least two seeds"),
        (["--interpolate", "3,x"], "cannot read the seeds '3,x'"),
        (["--traverse", "--out", "x.npz"], "cannot write x.npz: --out takes .png"),
        (["--reconstruct", "moons"], "samples of moons have shape (2,), those of the model (1, 8, 8)"),
        (["--steps", "3"], "unknown option of this model 'steps'"),
    ],
)
def test_wrong_requests_are_one_sentence(run, tmp_path, words, message, command):
    done = command("sample", run, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_model_without_an_encoder_says_so(tmp_path, command):
    folder = tmp_path / "run"
    small = ["--model", "gan", "model.channels=[8]", "train.batch=16"]
    done = command("train", "digits", *small, "--for", "2it", "--out", folder, "-q")
    assert done.returncode == 0, done.stderr
    assert command("sample", folder, "--interpolate", "3,7").returncode == 0
    done = command("sample", folder, "--reconstruct", "digits")
    assert done.returncode == 2
    assert "needs a model with an encoder" in done.stderr


def test_flags_are_settings(tmp_path, command):
    words = ["train", "digits", "--model", "vae", "--print-recipe", "--out", tmp_path / "run"]
    assert "hierarchy: 3" in command(*words, "--hierarchy", 3).stdout
    assert "bottleneck: vq" in command(*words, "--bottleneck", "vq").stdout
