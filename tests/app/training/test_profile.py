"""The profile of training steps: shares of time, and operations."""

import json
import time

import pytest
import torch
from torch import nn

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.cli import main
from ancestral.app.training import profile as module
from ancestral.app.training.profile import Clock, peak, profiled
from ancestral.runtime import Runtime

QUIET = ("train.previews=0", "train.batch=64", "train.precision=fp32")


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 2))

    def forward(self, z, logsnr):
        return self.layers(torch.cat([z, logsnr[:, None] / 10], 1))


@pytest.fixture(autouse=True)
def _known_peak(monkeypatch):
    monkeypatch.setattr(module, "peak", lambda runtime: 1e9)


def begun(tmp_path, *settings, model=None):
    how = {"budget": "20it", "out": tmp_path / "run", "device": "cpu", "settings": (*QUIET, *settings)}
    return plan("moons", model=model or an.Diffusion(Own(), shape=(2,)), **how).begin()


def profiles(trainer, **how):
    found = []
    taken = [step.step for step in profiled(trainer, found.append, **how)]
    assert taken == list(range(1, 21)), "every step is passed on"
    return found


def test_shares_sum_to_one_and_operations_are_those_of_the_layers(tmp_path):
    """Forward one product in each of two layers; backward one for the weights of each, and one for the input of the second."""
    trainer = begun(tmp_path)
    (found,) = profiles(trainer, warm=3, measured=10)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert list(found.shares) == ["data", "forward", "backward", "reduction", "optimiser", "average", "rest"]
    assert all(found.shares[name] > 0 for name in ("data", "forward", "backward", "optimiser", "average", "rest"))
    assert found.flops == 2 * 64 * (2 * 3 * 16 + 3 * 16 * 2)
    assert found.steps == 10
    assert found.mfu == pytest.approx(found.flops / found.seconds / 1e9)
    assert "update" not in vars(trainer.state)
    assert trainer.state.clock is module.silent_clock


def test_a_part_of_a_batch_counts_as_much_as_the_whole(tmp_path):
    (found,) = profiles(begun(tmp_path, "train.accumulate=4"), warm=3, measured=10)
    assert found.flops == 2 * 64 * (2 * 3 * 16 + 3 * 16 * 2)


def test_slow_data_are_seen_as_waiting(tmp_path, monkeypatch):
    trainer = begun(tmp_path)
    batch = type(trainer.state.data).batch

    def slow(*args, **how):
        time.sleep(0.03)
        return batch(*args, **how)

    monkeypatch.setattr(type(trainer.state.data), "batch", slow)
    (found,) = profiles(trainer, warm=3, measured=10)
    assert found.shares["data"] > 0.5
    assert found.seconds > 0.03


@pytest.mark.parametrize(("warm", "steps"), [(15, 5), (19, 1), (20, None)])
def test_training_that_ends_early(tmp_path, warm, steps):
    found = profiles(begun(tmp_path), warm=warm, measured=50)
    assert [made.steps for made in found] == ([] if steps is None else [steps])


def test_the_time_of_an_inner_phase_is_not_that_of_the_outer_one():
    clock = Clock(torch.device("cpu"))
    with clock("forward"):
        time.sleep(0.01)
        with clock("data"):
            time.sleep(0.05)
    spent = clock.seconds()
    assert spent["data"] >= 0.05
    assert 0.01 <= spent["forward"] < 0.05


def test_the_peak_is_measured():
    assert 1e9 < peak(Runtime.choose("cpu", "fp32", parameters=10**6)) < 1e14


def test_command_line(tmp_path, capsys):
    line = "train moons --for 20it model.width=8 train.previews=0 --profile --device cpu"
    with pytest.raises(SystemExit) as ended:
        main([*line.split(), "--out", str(tmp_path / "a"), "--json"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)["profile"]
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert found["steps"] == 10
    assert found["images_per_second"] > 0
    with pytest.raises(SystemExit):
        main([*line.replace("20it", "8it").split(), "--out", str(tmp_path / "b")])
    assert "no profile: it needs more than 10 steps, and training had 8" in capsys.readouterr().err
