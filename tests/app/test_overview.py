"""What is said of a run, its samples and its budget follows from their numbers."""

import json

import pytest
import torch

import ancestral as an
from ancestral.app import overview
from ancestral.app.api import plan
from ancestral.app.data import load
from ancestral.app.estimate import Bought, estimate
from ancestral.app.neighbours import Neighbours
from ancestral.app.training.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "moons"
    an.train("moons", budget="8it", out=out, settings=("model.width=8", "train.batch=16", "train.previews=1"), quiet=True)
    return Run(out)


def rows(losses, **last):
    found = [{"step": i + 1, "seconds": i, "model/total": loss} for i, loss in enumerate(losses)]
    return [*found[:-1], found[-1] | last]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([2 - 0.02 * i for i in range(60)], "still falls"),
        ([1 + 0.01 * (-1) ** i for i in range(60)], "no longer changes"),
        ([1 + 0.02 * i for i in range(60)], "rose"),
    ],
)
def test_the_trend_of_the_loss_is_said(run, losses, said):
    assert any(said in sentence.text for sentence in overview.health(run, rows(losses)))


def test_findings_and_skipped_steps_are_bad_news(run):
    found = overview.health(run, rows([1.0] * 9, findings=["it collapsed"], skipped="loss"))
    assert [sentence.text for sentence in found if sentence.tone == "bad"] == [
        "1 step was skipped: a loss or a gradient was not finite.",
        "It collapsed.",
    ]


@pytest.mark.parametrize(
    ("step", "said"), [(168, "at step 168, came too early"), (1200, "at step 1,200, found nothing wrong.")]
)
def test_a_check_that_found_nothing_is_good_news_if_it_was_not_too_early(run, step, said):
    checked = [{"step": step, "total/total": 1.0, "health/js": 0.1, "findings": []}]
    assert any(said in sentence.text for sentence in overview.health(run, checked))


def test_a_training_that_is_too_short_is_said_to_be(run):
    found = overview.health(run)
    assert found[-1].text == "The training ended after 8 steps: samples may be noise. They become clear after about 1,000."
    assert overview.counters(run)["progress"] == 1
    assert overview.state_of(run)["sampled"]


def test_a_damaged_checkpoint_is_passed_over(run, tmp_path):
    copy = Run(tmp_path / "copy")
    copy.checkpoints.mkdir(parents=True)
    for file in run.checkpoint_files():
        (copy.checkpoints / file.name).write_bytes(file.read_bytes())
    (copy.checkpoints / "step-00000099.safetensors").write_bytes(b"damaged")
    copy.recipe_file.write_bytes(run.recipe_file.read_bytes())
    assert overview.counters(copy) == overview.counters(run)


def test_previews_are_stored_as_tensors(run):
    from safetensors.torch import load_file

    assert load_file(run.samples / "step-00000008.safetensors")["samples"].shape == (512, 2)
    assert json.loads((run.path / "metrics.jsonl").read_text("utf-8").splitlines()[-1])["step"] == 8


def test_stored_levels_are_those_of_the_samples():
    data = load("digits")
    x = data.x("test")[:5]
    assert torch.equal(data.values(data.stored(x)), x)
    assert data.stored(x).dtype == torch.uint8


def test_neighbours_find_copies():
    data = load("digits")
    search = Neighbours(data)
    copies, others = data.x("train", torch.arange(6)), torch.rand(6, 1, 8, 8)
    found = search(torch.cat([copies, others]))
    assert found.rows[:6].tolist() == list(range(6))
    assert found.copies.tolist() == [True] * 6 + [False] * 6
    assert found.copy_rate == 0.5
    held = search(data.x("test"))
    assert held.copy_rate == pytest.approx(0.01, abs=0.01)


def test_the_distance_is_in_deviations_of_the_data():
    data = load("moons")
    x = data.x("train", torch.arange(1))
    moved = x + torch.tensor(data.spec.std) * 50  # far from all data, so that the nearest point is at the edge
    assert Neighbours(data)(moved).distances[0] == pytest.approx(50, rel=0.1)


def test_an_estimate_counts_steps_and_passes(tmp_path):
    planned = plan("moons", budget="300it", out=tmp_path / "none", settings=("train.batch=100", "model.width=8"))
    found = estimate(planned.recipe, planned.data, planned.model, planned.runtime)
    assert found.steps == 300
    assert found.passes == pytest.approx(300 * 100 / len(planned.data.train))
    timed = plan("moons", budget="2s", out=tmp_path / "none", settings=("train.batch=100", "model.width=8"))
    assert estimate(timed.recipe, timed.data, timed.model, timed.runtime).seconds == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize(("steps", "samples"), [(100, "noise"), (250, "rough"), (999, "rough"), (1000, "clear")])
def test_what_samples_will_be_depends_on_the_steps(steps, samples):
    assert Bought(steps, 1.0, 1.0, 1000, 1).samples == samples
