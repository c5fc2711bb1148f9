"""The loop: schedules, exact resume, failures, budgets."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.training import loop as trainer_module
from ancestral.errors import AncestralError, UsageError

SMALL = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16")
WITHOUT_PREVIEWS = (*SMALL, "train.previews=0")
OF_VECTORS = ("model.width=16", "train.previews=0")


def trainer(tmp_path, budget="20it", name="run", *settings, source="digits", **options):
    return prepare(source, budget=budget, out=tmp_path / name, settings=(*WITHOUT_PREVIEWS, *settings), **options)


def prepare(source, **options):
    return plan(source, device="cpu", **options).begin()


def weights(t):
    return torch.cat([state.flat.value.detach() for state in t.players]).clone()


def test_loss_falls_and_the_run_is_whole(tmp_path):
    t = prepare("digits", budget="150it", out=tmp_path / "run", settings=SMALL)
    losses = [step.losses["model/total"] for step in t]
    assert sum(losses[-20:]) / 20 < 0.8 * sum(losses[:20]) / 20
    names = {str(p.relative_to(t.run.path)) for p in t.run.path.rglob("*") if p.is_file()}
    assert {"recipe.yaml", "metrics.jsonl", "model/config.json", "model/model.safetensors"} <= names
    assert "checkpoints/step-00000150.safetensors" in names
    previews = sorted(t.run.samples.glob("step-*.png"))
    assert len(previews) == 8
    with Image.open(previews[-1]) as picture:
        assert picture.size == (202, 202)
    model = an.load(t.run.path)
    assert model.sample(2, steps=2).shape == (2, 1, 8, 8)


def test_the_saved_model_is_the_average(tmp_path):
    t = trainer(tmp_path)
    list(t)
    model = an.load(t.run.path)
    with t.averaged():
        for p, q in zip(t.model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(p.detach(), q, atol=0, rtol=0)
    assert not torch.equal(weights(t), t.players[0].ema.average)


@pytest.mark.parametrize("cuts", [(7,), (1, 13)])
def test_resume_is_exact(tmp_path, cuts):
    whole = trainer(tmp_path, "20it", "whole", "model.dropout=0.1", "data.flip=true", condition="class")
    list(whole)
    for cut in cuts:
        part = trainer(tmp_path, "20it", "parts", "model.dropout=0.1", "data.flip=true", condition="class")
        for step in part:
            if step.step == cut:
                part.save()
                break
    last = trainer(tmp_path, "20it", "parts", "model.dropout=0.1", "data.flip=true", condition="class")
    assert last.step == cuts[-1]
    list(last)
    assert torch.equal(weights(whole), weights(last))
    assert torch.equal(whole.players[0].ema.average, last.players[0].ema.average)
    a, b = (r.run.path.joinpath("model/model.safetensors").read_bytes() for r in (whole, last))
    assert a == b


def test_accumulation_takes_the_gradient_of_the_whole_batch(tmp_path):
    """A loss without noise, so that one part and four have the same gradient, loss and number of images."""

    def plain(batch, player, noise):
        x = batch.x.flatten(1)
        return {"total": (x * t.model.denoiser.network.head.weight.sum() + x).square().sum(1)}

    results = []
    for parts in (1, 4):
        t = trainer(tmp_path, "1it", f"parts{parts}", f"train.accumulate={parts}", "train.clip=1000000")
        t.model.losses = plain
        (step,) = t
        results.append((step.losses["model/total"], step.grad_norms["model"], step.images))
    assert results[0] == pytest.approx(results[1], rel=1e-5)
    assert results[0][1] > 0


def test_every_epoch_sees_every_sample_once(tmp_path):
    t = trainer(tmp_path, "2epochs")
    n = len(t.data.train)
    seen = []
    while t.epochs < 2:
        seen.append(t.state.indices(t.images))
        t.images += t.state.batch
    order = torch.cat(seen)[: 2 * n]
    assert torch.equal(order[:n].sort().values, torch.arange(n))
    assert torch.equal(order[n:].sort().values, torch.arange(n))
    assert not torch.equal(order[:n], order[n:])


def test_learning_rate_warms_up_stays_and_falls(tmp_path):
    t = trainer(tmp_path, "1000it", "run", "train.warmup=100", "train.lr=0.01")
    rates = {}
    for t.step in (0, 49, 99, 400, 749, 999):
        rates[t.step] = t.state.train.lr * t.state.train.factor(t.step, t.progress)
    assert rates[0] == pytest.approx(0.0001)
    assert rates[49] == pytest.approx(0.005)
    assert rates[99] == rates[400] == 0.01
    assert rates[749] == pytest.approx(0.005, rel=0.01)
    assert rates[999] < 1e-6 * 100


def test_a_time_budget_is_kept(tmp_path, monkeypatch):
    """On a clock that only the trainer's looking at it moves."""
    ticks = itertools.count()
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(monotonic=lambda: next(ticks) * 0.01))

    def begin(started):
        settings = (*OF_VECTORS, "train.batch=16")
        return prepare("moons", budget="3s", out=tmp_path / "run", settings=settings, started=started)

    t = begin(0.0)
    steps = list(t)
    assert t.seconds == pytest.approx(3, rel=0.05)
    assert len(steps) > 50
    assert steps[-1].progress == 1
    assert steps[-1].lr < 0.01 * max(step.lr for step in steps)
    again = begin(next(ticks) * 0.01)
    assert again.progress >= 1
    assert list(again) == []


def test_a_budget_of_time_ends_with_the_epochs_that_suit_few_samples(tmp_path):
    """A VAE of 1,618 digits makes 60 passes through them; counted budgets are kept as they are."""
    short = ("train.epochs=0.2", "train.previews=0", "model.width=8")
    few = plan("digits", model="vae", budget="1d", out=tmp_path / "a", settings=short).begin()
    said = next(iter(few)).notes
    assert any("ends after 0.2 passes through the data (train.epochs)" in note for note in said)
    assert [step.progress for step in few][-1] == 1
    assert few.images == 6 * 64
    assert few.verdict.startswith("0.2 passes (train.epochs) ended the training after 6 steps: samples may be noise")
    assert plan("digits", model="vae", budget="1d", out=tmp_path / "b").recipe.train.epochs == 60
    assert plan("digits", model="diffusion", budget="1d", out=tmp_path / "c").recipe.train.epochs is None
    counted = plan("digits", model="vae", budget="7it", out=tmp_path / "d", settings=short).begin()
    assert [step.step for step in counted][-1] == 7


def test_non_finite_steps_are_skipped_then_stop_training_with_the_tensors_name(tmp_path):
    t = trainer(tmp_path, "50it")
    target = next(p for name, p in t.model.named_parameters() if name == "denoiser.network.stem.weight")

    def poison(grad):
        return grad * math.nan if 5 <= t.step < 7 or t.step >= 15 else grad

    target.register_hook(poison)
    steps, before = [], None
    with pytest.raises(AncestralError) as error:
        for step in t:
            steps.append(step)
            if step.step == 5:
                before = weights(t)
            if step.step == 7:
                assert torch.equal(before, weights(t)), "a skipped step changes nothing"
    assert [s.step for s in steps if s.skipped] == [6, 7, 16, 17, 18, 19]
    assert "training stopped at step 19: 5 steps in a row were not finite" in str(error.value)
    assert "the gradient of denoiser.network.stem.weight" in str(error.value)
    assert all(p.isfinite().all() for p in an.load(t.run.path).parameters())
    rows = t.run.metrics()
    assert any("skipped" in row for row in rows)


def test_changed_data_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "x.npy"
    np.save(file, rng.normal(size=(50, 3)))
    list(prepare(str(file), budget="3it", out=tmp_path / "run", settings=OF_VECTORS))
    described = (tmp_path / "run" / "model" / "config.json").read_bytes()
    np.save(file, rng.normal(size=(50, 3)))
    with pytest.raises(AncestralError, match="have changed since"):
        prepare(str(file), budget="3it", out=tmp_path / "run")
    assert (tmp_path / "run" / "model" / "config.json").read_bytes() == described


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
def test_every_shape_trains_and_samples(tmp_path, array):
    model = an.train(array, budget="3it", out=tmp_path / "run", quiet=True, settings=("train.previews=1", "model.width=16"))
    x = model.sample(3, seeds=[4, 5, 6], steps=3)
    assert x.shape == (3, *model.shape)
    assert x.isfinite().all()
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 1


def test_python_like_the_readme(tmp_path):
    model = an.train("digits", model="diffusion", budget="2it", out=tmp_path / "digits", quiet=True)
    x = model.sample(16, seeds=range(16))
    assert x.shape == (16, 1, 8, 8)
    assert 0 <= x.min() <= x.max() <= 1
    torch.testing.assert_close(an.load(tmp_path / "digits").sample(4, seeds=range(4, 8)), x[4:8], atol=1 / 255, rtol=0)


def test_a_size_is_a_number_or_two(tmp_path):
    with pytest.raises(UsageError, match=r"size must be .* pixels or a pair \(height, width\), found \[8\]"):
        plan("digits", out=tmp_path, settings=("data.size=[8]",))


def test_no_classes_to_condition_on(tmp_path):
    with pytest.raises(UsageError, match="has no classes to condition on"):
        prepare(np.zeros((10, 3)) + np.arange(10)[:, None], budget="3it", out=tmp_path / "run", condition="class")


def test_a_loss_that_is_not_finite_is_traced_to_the_module(tmp_path):
    t = trainer(tmp_path, "50it")
    t.model.denoiser.network.middle[0].conv1.register_forward_hook(lambda module, inputs, output: output * math.inf)
    with pytest.raises(AncestralError, match=r"the output of denoiser\.network\.middle\.0\.conv1"):
        list(t)


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    t = trainer(tmp_path, "50it")
    with pytest.raises(AncestralError, match=r"denoiser\.network\.stem\.bias of the model is not finite"):
        for step in t:
            if step.step == 3:
                t.save()
                t.model.denoiser.network.stem.bias.data[0] = math.nan
                t.save()
    again = trainer(tmp_path, "50it")
    assert again.step == 3
    assert weights(again).isfinite().all()


def test_a_damaged_checkpoint_is_renamed_and_not_used(tmp_path):
    """It is renamed, so that it neither passes for the newest nor pushes out the good one."""
    t = trainer(tmp_path, "20it", "run", "train.keep=1")
    for step in t:
        if step.step == 5:
            t.save()
            break
    (good,) = t.run.checkpoint_files()
    good.with_name("step-00000009.safetensors").write_bytes(b"half of i")
    again = trainer(tmp_path, "20it", "run", "train.keep=1")
    assert again.step == 5
    assert again.notes == ("step-00000009.safetensors is damaged; continuing from step-00000005.safetensors",)
    again.save()
    assert again.run.checkpoint_files() == [good]


def test_settings_that_are_left_out_are_those_of_the_run(tmp_path):
    """A run continues without its words being repeated, under another spelling of its path, and refuses other words."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(50, 3)))
    list(prepare(str(tmp_path / "x.npy"), budget="3it", out=tmp_path / "run", settings=("train.batch=8", *OF_VECTORS)))
    again = plan(f"{tmp_path}/./x.npy", out=tmp_path / "run", device="cpu")
    assert (again.recipe.train.budget, again.recipe.train.batch) == ("3it", 8)
    assert again.begin().progress == 1
    with pytest.raises(UsageError, match="another recipe"):
        plan(str(tmp_path / "x.npy"), budget="3it", out=tmp_path / "run", device="cpu", settings=("train.batch=9",)).begin()


def test_a_plan_writes_nothing(tmp_path):
    plan("digits", budget="3it", out=tmp_path / "run", device="cpu", settings=SMALL)
    with pytest.raises(UsageError):
        plan("moons", budget="3it", out=tmp_path / "run", condition="text", device="cpu")
    assert not (tmp_path / "run").exists()


def test_other_peoples_hidden_files_are_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".theirs.tmp").write_text("")
    trainer(tmp_path)
    assert (tmp_path / "run" / ".theirs.tmp").exists()


@pytest.mark.full
def test_in_bfloat16_a_sample_is_the_same_picture_in_any_batch(tmp_path):
    """To one of 256 grey levels, for the default network after some training."""
    an.train("digits", budget="80it", out=tmp_path / "run", device="cpu", quiet=True, settings=("train.precision=fp32",))
    model = an.load(tmp_path / "run", device="cpu", precision="bf16")
    seeds = list(range(16))
    whole = model.sample(len(seeds), seeds=seeds, steps=8)
    for rows in (slice(0, 1), slice(5, 12), slice(15, 16)):
        part = model.sample(len(seeds[rows]), seeds=seeds[rows], steps=8)
        assert (part - whole[rows]).abs().max() <= 1 / 255


@pytest.mark.parametrize(("units", "unfit"), [({}, True), ({"mean": 100.0, "std": 30.0}, False), ({"mean": 100.0}, True)])
def test_units_of_a_model_object_that_are_not_those_of_the_data_are_said(tmp_path, units, unfit):
    x = np.random.default_rng(0).uniform(50, 150, (4000, 3)).astype(np.float32)
    model = an.Diffusion(an.networks.MLP(3, width=16), shape=(3,), **units)
    notes = plan(x, model=model, budget="1it", out=tmp_path / "run").data.notes
    said = [note for note in notes if note.startswith("the model's units do not fit: by its mean and std the data are up to")]
    assert len(said) == unfit
    if units == {}:
        assert "up to 1" in said[0]  # about 100 from 0
        assert "their deviation is 2" in said[0]  # 100 / sqrt(12) = 28.9
