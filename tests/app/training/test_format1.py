"""Runs that were made with format 1 still load, sample and continue."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.migration import recipe
from ancestral.app.training import checkpoint
from ancestral.app.training.run import Run
from ancestral.errors import AncestralError
from ancestral.weights import checksum, named_as_in

RUNS = Path(__file__).parents[2] / "fixtures" / "format1"
SAMPLED = [path.name for path in sorted(RUNS.iterdir()) if (path / "expected.safetensors").exists()]


@pytest.mark.parametrize("name", SAMPLED)
def test_an_old_run_draws_the_same_samples(name):
    expected = load_file(RUNS / name / "expected.safetensors")["half"]
    found = an.load(RUNS / name, device="cpu", precision="fp32").sample(2, seeds=[3, 7])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [path.name for path in sorted(RUNS.iterdir())])
def test_an_old_run_continues(tmp_path, name):
    """To the end of its budget, from the state in which it was stopped."""
    folder = tmp_path / name
    shutil.copytree(RUNS / name, folder)
    source = Run(folder).recipe.data.source
    trainer = plan(source, out=folder, device="cpu").begin()
    assert trainer.step == (10 if name == "latent-first-stage" else 20)
    before = torch.cat([state.ema.average for state in trainer.players])
    steps = list(trainer)
    assert steps[-1].step == 40
    assert all(not step.skipped for step in steps)
    model = an.load(folder, device="cpu", precision="fp32")
    assert model.sample(2, seeds=[3, 7]).isfinite().all()
    if name in SAMPLED and name not in CHANGED:
        expected = load_file(RUNS / name / "expected.safetensors")
        average = torch.cat([state.ema.average for state in trainer.players])
        torch.testing.assert_close(average[:: max(1, len(average) // 500)], expected["average"], rtol=1e-2, atol=2e-3)
        assert not torch.equal(average[: len(before)], before)


CHANGED = ("gan", "vae-vq")  # whose penalties and codes are of other samples of the batch than in format 1


def test_old_names_of_settings_are_read():
    old = {"model": {"family": "latent", "drop": 0.2, "taken": None, "prior": {"family": "diffusion", "target": "flow"}}}
    assert recipe(old)["model"] == {
        "family": "latent",
        "condition_dropout": 0.2,
        "pretrained": None,
        "prior": {"family": "diffusion", "target": "velocity"},
    }
    assert old["model"]["drop"] == 0.2


def test_weights_of_an_old_run_that_are_not_finite_are_refused_by_name(tmp_path):
    shutil.copytree(RUNS / "diffusion", tmp_path / "run")
    file = tmp_path / "run/model/model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(AncestralError, match=r"model.safetensors is refused: its tensor .* is not finite"):
        an.load(tmp_path / "run")


def test_former_names_of_modules_are_read(tmp_path):
    """Version 0.1 also wrote checkpoints by parameter name, with modules that have other names today."""
    small = ("model.width=8", "train.batch=8", "train.previews=0", "model.net=conv")
    start = {"out": tmp_path / "run", "condition": "sketch", "model": "vae", "settings": small, "device": "cpu"}
    list(plan("digits", budget="2it", **start).begin())
    run = Run(tmp_path / "run")
    expected = run.load_model("cpu").state_dict()
    assert any(".from_context." in name for name in expected)
    former = lambda tensors: {name.replace(".from_context.", ".told."): t.contiguous() for name, t in tensors.items()}  # noqa: E731
    tensors = former(expected)
    save_file(tensors, run.weights, {"checksum": checksum(tensors)})
    (file,) = run.checkpoint_files()
    stored = checkpoint.read(file, [])
    checkpoint.write(file, former(stored.tensors), stored.numbers)
    found = run.load_model("cpu").state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    continued = plan("digits", budget="4it", **start).begin()
    assert continued.step == 2
    restored = continued.state.tensors()
    assert any(".from_context." in key for key in restored)
    assert all(torch.equal(stored.tensors[key], value) for key, value in restored.items())


def test_a_network_of_its_own_keeps_a_former_name():
    own = torch.nn.ModuleDict({"told": torch.nn.Linear(2, 2)})
    assert named_as_in(own, own.state_dict()).keys() == {"told.weight", "told.bias"}
