"""Samples in parts, by several processes, after interruptions; evaluation and early stopping in training."""

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.evaluation import Evaluator, draw
from ancestral.app.evaluation import samples as samples_module
from ancestral.app.evaluation.live import evaluated
from ancestral.app.evaluation.samples import rows_for
from ancestral.app.training.budget import Budget
from ancestral.runtime import Runtime

CPU = Runtime.choose("cpu", "fp32", parameters=1)
SMALL = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16", "train.previews=0")


@pytest.fixture
def data(squares):
    images, labels = squares(400)
    return an.load_data(images, labels=labels)


def trained(data, path, budget="3it", condition=None):
    trainer = plan(data, budget=budget, out=path, settings=SMALL, device="cpu", condition=condition).begin()
    list(trainer)
    return an.load(path, device="cpu")


def test_parts_are_kept_and_the_rest_is_drawn(data, tmp_path, monkeypatch):
    monkeypatch.setattr(samples_module, "PART", 8)
    model = trained(data, tmp_path / "run")
    whole = draw(model, data, 20, tmp_path / "a", {"steps": 2})
    assert whole.x.shape == (20, 1, 12, 12)
    assert torch.equal(whole.x, (whole.x * 255).round() / 255)
    assert whole.nfe == 2
    assert whole.seconds > 0

    half = draw(model, data, 8, tmp_path / "b", {"steps": 2})
    drawn = []
    original = model.batches
    monkeypatch.setattr(model, "batches", lambda n, *args, **how: drawn.append(n) or original(n, *args, **how))
    rest = draw(model, data, 20, tmp_path / "b", {"steps": 2})
    assert drawn == [8, 4]
    assert torch.equal(rest.x[:8], half.x)
    torch.testing.assert_close(rest.x, whole.x, atol=1.5 / 255, rtol=0)
    drawn.clear()
    again = draw(model, data, 10, tmp_path / "b", {"steps": 2})
    assert drawn == []
    assert torch.equal(again.x, rest.x[:10])
    draw(model, data, 10, tmp_path / "b", {"steps": 3})
    assert drawn == [8, 2]


def test_processes_share_the_work(data, tmp_path, monkeypatch):
    monkeypatch.setattr(samples_module, "PART", 8)
    model = trained(data, tmp_path / "run")
    whole = draw(model, data, 20, tmp_path / "alone", {"steps": 2})
    counts = []
    original = model.batches
    monkeypatch.setattr(model, "batches", lambda n, *args, **how: counts.append(n) or original(n, *args, **how))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert len(draw(model, data, 20, tmp_path / "shared", {"steps": 2})) == 0
    assert counts == [8]
    monkeypatch.setenv("RANK", "0")
    shared = draw(model, data, 20, tmp_path / "shared", {"steps": 2})
    assert counts == [8, 8, 4]
    torch.testing.assert_close(shared.x, whole.x, atol=1.5 / 255, rtol=0)


def test_classes_are_asked_for_as_often_as_they_are(data, tmp_path):
    labels = data.test.labels[rows_for(data, 1000)]
    share = np.bincount(labels, minlength=3) / 1000
    there = np.bincount(data.test.labels, minlength=3) / len(data.test)
    np.testing.assert_allclose(share, there, atol=0.02)
    model = trained(data, tmp_path / "run", condition="class")
    assert torch.equal(draw(model, data, 12, tmp_path / "parts", {"steps": 2}).labels, labels[:12])


def test_live_evaluation_is_logged_and_can_stop_the_training(data, tmp_path):
    evaluator = Evaluator(data, n=40, extractors=["random"], runtime=CPU)
    trainer = plan(data, budget="40it", out=tmp_path / "run", settings=SMALL, device="cpu").begin()
    notes = [note for step in evaluated(trainer, evaluator, Budget.parse("5it")) for note in step.notes]
    rows = [row for row in trainer.run.metrics() if "live/kid-random" in row]
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert all(row["live/std_err"] > 0 for row in rows)
    assert any("kid-random" in note for note in notes)

    stopping = plan(data, budget="400it", out=tmp_path / "stop", settings=(*SMALL, "train.lr=1e-9"), device="cpu").begin()
    steps = [step.step for step in evaluated(stopping, evaluator, Budget.parse("5it"), patience=2)]
    assert steps[-1] < 400
    assert "no improvement in 2 evaluations" in stopping.concluded
    again = plan(data, budget="400it", out=tmp_path / "stop", settings=(*SMALL, "train.lr=1e-9"), device="cpu").begin()
    assert again.progress == 1

    def part():
        return plan(data, budget="400it", out=tmp_path / "part", settings=(*SMALL, "train.lr=1e-9"), device="cpu").begin()

    first = part()
    for step in evaluated(first, evaluator, Budget.parse("5it"), patience=2):
        if step.step == 10:  # where an evaluation is due
            first.save()
            break
    second = part()
    assert [step.step for step in evaluated(second, evaluator, Budget.parse("5it"), patience=2)][-1] == steps[-1]
    kept = [[row["step"] for row in t.run.metrics() if "live/kid-random" in row] for t in (stopping, second)]
    assert len(kept[0]) == len(kept[1])


@pytest.mark.parametrize(
    ("cost", "expected"),
    [(0.2, dict.fromkeys((5, 20, 30, 40), 50)), (0.01, {5: 50} | dict.fromkeys(range(10, 41, 5), 200))],
    ids=["costly", "cheap"],
)
def test_live_evaluations_take_no_more_than_their_share_of_the_time(data, tmp_path, monkeypatch, cost, expected):
    """A tenth of 400 seconds: of samples of 0.2 s there are four times 50, of those of 0.01 s all that the evaluator has."""
    clock = 0.0
    monkeypatch.setattr("ancestral.app.evaluation.live.time.monotonic", lambda: clock)
    trainer, drawn = plan(data, budget="40it", out=tmp_path / "run", settings=SMALL, device="cpu").begin(), {}
    monkeypatch.setattr(type(trainer), "seconds", property(lambda self: 10.0 * self.step))

    def draw(n, condition, seeds):
        nonlocal clock
        clock += cost * n
        drawn[trainer.step] = n
        return data.x("train")[:n]

    monkeypatch.setattr(trainer, "draw", draw)
    evaluator = Evaluator(data, n=200, extractors=["random"], runtime=CPU)
    for _ in evaluated(trainer, evaluator, Budget.parse("5it"), share=0.1):
        pass
    assert drawn == expected
    assert clock <= 0.1 * 400
