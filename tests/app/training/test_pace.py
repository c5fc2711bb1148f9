"""A network that is far too slow for its budget of time gives way to a smaller one, where nobody asked for its size."""

import itertools
from types import SimpleNamespace

import pytest

from ancestral.app.api import plan
from ancestral.app.training import loop, pace


@pytest.fixture
def slow(monkeypatch):
    """A machine on which a step takes a millisecond for each feature of the finest level."""
    widths = []

    def seconds(model, data, batch, runtime, alone):
        widths.append(model.denoiser.network.stem.out_channels)
        return widths[-1] / 1000

    monkeypatch.setattr(pace, "seconds_per_step", seconds)
    return widths


@pytest.mark.parametrize(
    ("amount", "width", "tried"),
    [("10m", None, [64]), ("20s", 32, [64, 48, 32]), ("2s", 16, [64, 48, 32, 16]), ("50it", None, [])],
)
def test_the_network_suits_the_budget(tmp_path, slow, amount, width, tried):
    planned = plan("digits", budget=amount, out=tmp_path / "run", device="cpu")
    assert planned.recipe.model.width == width
    assert slow == tried
    assert any("than the default, which would take only about" in note for note in planned.data.notes) == (width is not None)


def test_given_settings_are_not_made_smaller(tmp_path, slow):
    planned = plan("digits", budget="2s", out=tmp_path / "run", device="cpu", settings=("model.width=64",))
    assert planned.recipe.model.width == 64
    assert slow == []


def test_the_speed_is_measured(tmp_path):
    planned = plan("digits", budget="5it", out=tmp_path / "run", device="cpu", settings=("model.width=16",))
    assert 0 < pace.seconds_per_step(planned.model, planned.data, 8, planned.runtime) < 10


def test_time_that_other_processes_take_does_not_count_for_a_training_that_waits(tmp_path, monkeypatch):
    """A pass of 3 seconds that had the processor for 1 of them takes 1 second alone; with two threads half of it."""
    planned = plan("digits", budget="5it", out=tmp_path / "run", device="cpu", settings=("model.width=16",))
    wall, busy = itertools.count(0, 3.0), itertools.count(0, 1.0)
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: next(wall), process_time=lambda: next(busy)))
    assert pace.seconds_per_step(planned.model, planned.data, 8, planned.runtime) == 3
    assert pace.seconds_per_step(planned.model, planned.data, 8, planned.runtime, alone=True) == 1
    monkeypatch.setattr(pace.torch, "get_num_threads", lambda: 2)
    assert pace.seconds_per_step(planned.model, planned.data, 8, planned.runtime, alone=True) == 0.5


def test_few_steps_are_said_before_and_after(tmp_path, monkeypatch):
    """On a clock that only the trainer's looking at it moves."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(ticks) * 0.02))
    planned = plan("moons", budget="4s", out=tmp_path, device="cpu", settings=("train.previews=0",), started=0.0)
    trainer = planned.begin()
    notes = [note for step in trainer for note in step.notes]
    assert any("steps fit into 4s" in note for note in notes)
    assert trainer.step < 250
    assert any("after fewer than about 250 steps samples may be noise; give more time with --for" in note for note in notes)
    assert trainer.verdict.startswith(f"only {trainer.step} steps fitted into 4s: samples may be noise; give more time")
    trainer.step = 700
    assert trainer.verdict.startswith("only 700 steps fitted into 4s: samples may be rough; give more time")
    trainer.step = 1000
    assert trainer.verdict is None
