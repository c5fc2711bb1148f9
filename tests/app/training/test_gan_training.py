"""The adversarial family through the trainer and the commands."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral.app.api import plan
from ancestral.errors import AncestralError, UsageError
from ancestral.models.objectives import OBJECTIVES

SMALL = ("model.channels=[8, 16]", "train.batch=16", "train.previews=1")


def trainer(out, budget="20it", *settings, source="digits", **options):
    return plan(source, model="gan", budget=budget, out=out, device="cpu", settings=(*SMALL, *settings), **options).begin()


@pytest.mark.parametrize(
    "settings",
    [(), pytest.param(("model.objective=hinge", "train.accumulate=2"), marks=pytest.mark.long)],
    ids=["default", "hinge"],
)
def test_resume_is_exact(tmp_path, settings):
    """Both players' parameters, averages and buffers, spectral normalisation's and augmentation's randomness included."""
    whole = trainer(tmp_path / "whole", "12it", *settings, condition="class")
    list(whole)
    for cut in (5, 7):
        part = trainer(tmp_path / "parts", "12it", *settings, condition="class")
        for step in part:
            if step.step == cut:
                part.save()
                break
    last = trainer(tmp_path / "parts", "12it", *settings, condition="class")
    assert last.step == 7
    list(last)
    for a, b in zip(whole.players, last.players, strict=True):
        assert torch.equal(a.flat.value, b.flat.value)
        assert torch.equal(a.ema.average, b.ema.average)
    models = [r.run.path.joinpath("model/model.safetensors").read_bytes() for r in (whole, last)]
    assert models[0] == models[1]
    assert int(last.model.turns) == 12


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains(tmp_path, objective):
    t = trainer(tmp_path / "run", "6it", f"model.objective={objective}")
    steps = list(t)
    names = set(steps[-1].losses)
    assert {"discriminator/total", "generator/total"} <= names
    assert ("discriminator/gp" in names) == (objective == "wasserstein")
    assert ("discriminator/r1" in names) == (objective == "relativistic")
    assert set(steps[-1].grad_norms) == {"discriminator", "generator"}
    assert all(math.isfinite(v) for step in steps for v in step.losses.values())
    assert steps[-1].diagnosis.numbers.keys() >= {"accuracy_real", "accuracy_fake", "accuracy_held_out", "js", "coverage"}
    assert an.load(t.run.path).sample(3, truncation=0.7).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).normal(size=(40, 5)),
        np.random.default_rng(0).normal(size=(40, 2, 37)),
        np.random.default_rng(0).integers(0, 256, (40, 13, 9, 3), dtype=np.uint8),
        np.random.default_rng(0).integers(0, 2, (40, 7, 7)).astype(bool),
    ],
    ids=["vectors", "signals", "odd colour images", "binary images"],
)
def test_every_kind_of_data(tmp_path, array):
    model = an.train(
        array, "gan", budget="3it", out=tmp_path / "run", quiet=True, settings=("train.previews=1", "model.width=8")
    )
    x = model.sample(3, seeds=[4, 5, 6])
    assert x.shape == (3, *model.shape)
    assert x.isfinite().all()


def test_what_the_data_choose(tmp_path):
    """Augmentation for a small set of images, none for points; penalties as in each objective's paper."""
    build = lambda source, *s: plan(source, model="gan", out=tmp_path / "x", device="cpu", settings=s).model  # noqa: E731
    batch = lambda source: plan(source, model="gan", out=tmp_path / "x", device="cpu").recipe.train.batch  # noqa: E731
    assert (batch("digits"), batch("moons")) == (32, 512)
    assert build("digits").augmented > 0
    assert not build("moons").augmented
    assert not build("digits", "model.augment=0").augmented
    assert build("moons").penalties.r1 > 0
    assert build("moons", "model.objective=wasserstein").penalties.gp == 10
    assert not build("moons", "model.objective=minimax").penalties
    with pytest.raises(UsageError, match="no channels or patch"):
        build("moons", "model.patch=2")


def collapse(t):
    """From now on the generator draws one sample, and nobody learns."""
    t.model.turns += 10_000
    t.model.generator.forward = lambda z, context: torch.zeros(len(z), 1, 8, 8)
    t.model.losses = lambda batch, player, noise: {"total": sum(p.sum() for p in t.model.parameters()) * torch.ones(1)}


def test_a_failed_game_is_stopped_and_the_last_good_model_kept(tmp_path):
    t = trainer(tmp_path / "run", "60it", "train.diagnoses=60")
    good = None
    with pytest.raises(AncestralError, match="stopped at step 23: the generator has collapsed: 64 samples, 1 distinct"):
        for step in t:
            if step.step == 20:
                good = t.run.path.joinpath("model/model.safetensors").read_bytes()
                collapse(t)
    assert t.run.path.joinpath("model/model.safetensors").read_bytes() == good
    rows = t.run.metrics()
    assert rows[-1]["findings"][0].startswith("the generator has collapsed")
    assert rows[-1]["health/distinct"] == 1
    again = trainer(tmp_path / "run", "60it", "train.diagnoses=60")  # the same command does not undo it
    again.save()
    collapse(again)
    with pytest.raises(AncestralError, match="stopped at step 24: the generator has collapsed"):
        list(again)
    assert t.run.path.joinpath("model/model.safetensors").read_bytes() == good


@pytest.fixture(scope="module")
def run(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("runs") / "digits-gan"
    done = command("train", "digits", *SMALL, "--model", "gan", "--for", "30it", "--condition", "class", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "D real" in done.stderr
    return folder


def test_sample_with_truncation(run, tmp_path, command):
    done = command("sample", run, "-n", 4, "--truncation", 0.7, "--class", 3, "--out", tmp_path / "x.npz", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nfe"] == 1
    for words, message in (
        (["--steps", 3], "unknown option of this model 'steps'"),
        (["--truncation", -1], "truncation is a number from 0"),
    ):
        done = command("sample", run, *words)
        assert done.returncode == 2
        assert message in done.stderr


def test_invert(run, tmp_path, command):
    picture = tmp_path / "seven.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)).save(picture)
    done = command("sample", run, "--invert", picture, "--class", 7, "--out", tmp_path / "both.png", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["psnr"] > 0
    with Image.open(tmp_path / "both.png") as pair:
        assert pair.size[0] > 52  # labels beside the tiles
        assert pair.size[1] == 102
    done = command("sample", run, "--invert", picture, "--out", tmp_path / "both.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "both.npz") as stored:
        assert stored["x"].shape == stored["reconstruction"].shape == (1, 1, 8, 8)
        assert stored["z"].shape[0] == 1
    missing = command("sample", run, "--invert", tmp_path / "none.png")
    assert missing.returncode == 2
    assert "cannot read the picture" in missing.stderr


def test_a_model_with_an_encoder_needs_no_search(tmp_path, run, command):
    small = ("model.channels=[8]", "train.batch=16", "train.previews=0")
    assert command("train", "digits", *small, "--for", "2it", "--out", tmp_path / "d").returncode == 0
    assert command("sample", run, "--seeds", "5", "--out", tmp_path / "pictures").returncode == 0
    done = command("sample", tmp_path / "d", "--invert", tmp_path / "pictures" / "5.png", "--out", tmp_path / "both.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "both.npz") as stored:
        assert stored["z"].shape == (1, 1, 8, 8)  # the noise of the ODE


def test_points_are_no_pictures(tmp_path, command):
    small = ("model.width=16", "train.previews=0")
    assert command("train", "moons", *small, "--for", "2it", "--out", tmp_path / "moons").returncode == 0
    done = command("sample", tmp_path / "moons", "--invert", "x.png")
    assert done.returncode == 2
    assert "are not pictures" in done.stderr


def test_info_tells_of_the_game(run, command):
    text = command("info", run).stdout
    for words in ("gan", "health", "accuracy_held_out"):
        assert words in text
    facts = json.loads(command("info", run, "--json").stdout)
    assert facts["health"].keys() >= {"js", "coverage", "distinct"}
