"""Runs of format 1, from before the library and the application were parted, stay usable."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ancestral as an
from ancestral.errors import AncestralError

RUNS = sorted((Path(__file__).parents[2] / "fixtures/format1").iterdir())


@pytest.mark.parametrize("run", [run for run in RUNS if (run / "expected.safetensors").exists()], ids=lambda run: run.name)
def test_an_old_run_loads_and_samples_as_it_did(run):
    """Its weights have no units of their own: those of its configuration hold."""
    expected = load_file(run / "expected.safetensors")["half"]
    model = an.load(run, device="cpu", precision="fp32")
    torch.testing.assert_close(model.sample(2, seeds=[3, 7]), expected, atol=1e-4, rtol=0)


def test_weights_of_an_old_run_that_are_not_finite_are_refused_by_name(tmp_path):
    shutil.copytree(RUNS[0], tmp_path / "run")
    file = tmp_path / "run/model/model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(AncestralError, match=r"model.safetensors is refused: its tensor .* is not finite"):
        an.load(tmp_path / "run")
