"""Latent models through the trainer and the commands: two stages in one run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral.app.api import plan
from ancestral.errors import UsageError
from ancestral.fidelity import psnr

SMALL = (
    "model.autoencoder.width=16",
    "model.autoencoder.batch=16",
    "model.autoencoder.share=0.5",
    "model.autoencoder.heard=0.4",
    "train.batch=16",
    "train.previews=2",
)
PRIOR = ("model.prior.width=16",)


def trainer(out, budget="16it", *settings, source="digits", small=(*SMALL, *PRIOR), **options):
    return plan(source, model="latent", budget=budget, out=out, device="cpu", settings=(*small, *settings), **options).begin()


@pytest.mark.parametrize(
    "settings",
    [("data.flip=true",), pytest.param(("model.autoencoder.bottleneck=vq", "train.accumulate=2"), marks=pytest.mark.long)],
    ids=["kl, mirrored", "vq"],
)
def test_resume_is_exact_within_and_between_stages(tmp_path, settings):
    whole = trainer(tmp_path / "whole", "16it", *settings, condition="class")
    list(whole)
    for cut in (5, 8, 9, 12):  # the second stage begins after the eighth step
        part = trainer(tmp_path / "parts", "16it", *settings, condition="class")
        for step in part:
            assert step.stage == ("autoencoder" if step.step <= 8 else "prior")
            if step.step == cut:
                part.save()
                break
    last = trainer(tmp_path / "parts", "16it", *settings, condition="class")
    assert (last.step, last.number) == (12, 1)
    list(last)
    models = [r.run.path.joinpath("model/model.safetensors").read_bytes() for r in (whole, last)]
    assert models[0] == models[1]
    for (name, p), q in zip(whole.model.state_dict().items(), last.model.state_dict().values(), strict=True):
        assert torch.equal(p, q), name


def test_the_run_tells_its_stages(tmp_path):
    t = trainer(tmp_path / "run")
    notes = [note for step in t for note in step.notes]
    assert [note.partition(":")[0] for note in notes if note.startswith("stage")] == ["stage 1 of 2", "stage 2 of 2"]
    assert any(note.startswith("latents of 4x4x4, by channel: mean") for note in notes)
    rows = t.run.metrics()
    assert {row.get("stage") for row in rows} == {"autoencoder", None, "prior"}
    looks = [row for row in rows if "stage" not in row]
    assert [row["step"] for row in looks] == [8], "what the first stage has left is recorded once, at its end"
    x = t.data.values(t.data.test.array)
    found = psnr(x, t.model.reconstruct(x)).mean().item()
    assert looks[0]["health/psnr"] == pytest.approx(found, abs=1e-3)
    assert any(note.startswith(f"reconstruction of {len(x)} held-out samples: PSNR {found:.1f} dB  SSIM") for note in notes)
    assert any("health/psnr" in row and row["stage"] == "autoencoder" for row in rows if "stage" in row)
    assert all(row["seconds"] >= 0 for row in rows)
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def test_the_first_stage_is_left_in_peace_by_the_second(tmp_path):
    t = trainer(tmp_path / "run")
    before = None
    for step in t:
        own = torch.cat([p.detach().flatten() for p in t.model.autoencoder.parameters()])
        if step.step == 9:
            before = own.clone()
        if step.step > 9:
            assert torch.equal(own, before)
    assert not torch.equal(before, torch.zeros_like(before))


@pytest.mark.parametrize("prior", ["score", "vae", "gan"])
def test_any_family_can_be_the_prior(tmp_path, prior):
    t = trainer(tmp_path / "run", "6it", f"model.prior.family={prior}", condition="class")
    list(t)
    model = an.load(t.run.path)
    x = model.sample(3, {"class": 2})
    assert x.shape == (3, 1, 8, 8)
    assert 0 <= x.min() <= x.max() <= 1


def test_a_transformer_as_the_priors_network(tmp_path):
    t = trainer(tmp_path / "run", "4it", "model.prior.net=dit", "model.prior.width=32", "model.prior.blocks=1", small=SMALL)
    list(t)
    assert type(t.model.prior.denoiser.network).__name__ == "DiT"
    assert an.load(t.run.path).sample(2, steps=2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("model.prior.family=flow",), "model.prior"),
        (("model.prior.stpes=3",), "unknown setting 'model.prior.stpes'"),
        (("model.prior.condition=[class]",), "model.condition, not model.prior.condition"),
        (("model.autoencoder.widht=3",), "unknown setting 'model.autoencoder.widht': did you mean 'width'"),
        (("model.autoencoder.patch=3",), "do not divide model.autoencoder.f=2"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, settings, words):
    with pytest.raises(UsageError, match=words):
        trainer(tmp_path / "run", "4it", *settings)


def test_vectors_have_no_latents(tmp_path):
    with pytest.raises(UsageError, match="have no sides to shrink"):
        trainer(tmp_path / "run", "4it", source="moons", small=())


def folder(path, n=240, side=32):
    """Coloured discs on coloured grounds."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    path.mkdir()
    for i in range(n):
        image = np.broadcast_to(rng.integers(0, 256, 3), (side, side, 3)).copy()
        image[(x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.3, 0.7)) ** 2 < rng.uniform(0.15, 0.3) ** 2] = rng.integers(
            0, 256, 3
        )
        Image.fromarray(image.astype(np.uint8)).save(path / f"{i:03d}.png")
    return path


@pytest.mark.long
def test_a_folder_from_end_to_end(tmp_path, command):
    """Reconstructions of held-out pictures are far better than their own mean colours, the best constant pictures."""
    run = tmp_path / "run"
    words = ["model.autoencoder.width=32", "model.autoencoder.share=0.8", "train.previews=2", "--for", "150it", "--out", run]
    trained = command("train", folder(tmp_path / "discs"), *words, "--model", "latent")
    assert trained.returncode == 0, trained.stderr
    assert "stage 2 of 2: the prior, 20% of the budget" in trained.stderr
    assert "PSNR" in trained.stderr
    model = an.load(run)
    data = an.load_data(tmp_path / "discs")
    x = data.batch(torch.arange(len(data.test)), "test").x
    constant = psnr(x, x.mean((2, 3), keepdim=True).expand_as(x)).mean()
    assert psnr(x, model.reconstruct(x)).mean() > constant + 3
    sampled = command("sample", run, "-n", 4, "--steps", 4, "--out", tmp_path / "samples.png")
    assert sampled.returncode == 0, sampled.stderr
    told = command("info", run, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["family"] == "latent"
    assert json.loads(told.stdout)["health"]["psnr"] > 10
    assert 0 < json.loads(told.stdout)["health"]["ssim"] <= 1
    judged = command("evaluate", run, "-n", 50, "--steps", 4, "--json", "--features", "random")
    assert judged.returncode == 0, judged.stderr
    found = {metric["name"]: metric for metric in json.loads(judged.stdout)["metrics"]}
    assert found["psnr"]["value"]["value"] == pytest.approx(psnr(x, model.reconstruct(x)).mean().item(), abs=0.1)
    assert found["psnr"]["value"]["n"] == found["ssim"]["value"]["n"] == found["rfd-random"]["real"]["n"] == len(x)
