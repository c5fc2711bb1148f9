"""Runs that were made with format 1 still load, sample and continue."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.migration import recipe
from ancestral.app.training.run import Run
from ancestral.errors import AncestralError

RUNS = Path(__file__).parents[2] / "fixtures" / "format1"
SAMPLED = [path.name for path in sorted(RUNS.iterdir()) if (path / "expected.safetensors").exists()]


@pytest.mark.parametrize("name", SAMPLED)
def test_an_old_run_draws_what_it_drew(name):
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
