"""The memorisation watch: when it looks, when it stops a training, what it keeps and what it says."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app import overview
from ancestral.app.api import plan
from ancestral.app.cli import main
from ancestral.app.data import load
from ancestral.app.evaluation import Comparison, Evaluator, Samples, Subject
from ancestral.app.report.write import markdown
from ancestral.app.training import memorisation
from ancestral.app.training.memorisation import Kept, MemorisationWatch, copying
from ancestral.app.training.run import Run, copies, findings
from ancestral.metrics import CopyTest, copy_test

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
ENVIRONMENT |= {"PYTHONPATH": str(Path(an.__file__).parents[1])}
SETTINGS = ("train.previews=0", "train.lr=0.004", "model.width=96", "train.warmup=10", "train.ema=0.05", "train.precision=fp32")
BUDGET = "1200it"


def points(n=40, d=6):
    return np.random.RandomState(0).randn(n, d).astype(np.float32)


def trainer(path, *settings, source=None, budget=BUDGET):
    return plan(
        points() if source is None else source, budget=budget, out=path, settings=(*SETTINGS, *settings), device="cpu"
    ).begin()


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A run of few points with a large network, which the watch has stopped."""
    torch.set_num_threads(1)
    t = trainer(tmp_path_factory.mktemp("copied") / "run")
    return t, [note for step in t for note in step.notes]


def checks(run):
    return [(row["step"], row["copies/rate"], row["copies/n"], row["copies/p"]) for row in run.metrics() if "copies/n" in row]


def weights(t):
    return torch.cat([state.flat.value.detach() for state in t.players])


def rate(model, t):
    watch = MemorisationWatch(t.data, flip=False)
    assert watch.prepare() is None
    return watch.check(model.sample(1000, seeds=range(1000)))


def test_training_stops_before_the_copy_rate_doubles(copied, capsys):
    """The sentence is in the notes, the findings and `info`. The kept weights copy no more than new data, the last ones do."""
    t, notes = copied
    last = t.run.metrics()[-1]["step"]
    assert t.copied
    assert last < 1200
    assert any(note.startswith(f"training ends: at step {last} the model has begun to copy") for note in notes)
    kept = t.run.load_model("cpu", "fp32")
    assert not rate(kept, t).doubled
    (held,) = t.watch.kept
    assert held.step < last
    with torch.no_grad():
        assert copying(rate(t.model, t))  # the parameters of the last step
    sentence = findings(t.run.metrics())[-1]
    assert f"the weights of step {held.step}, with " in sentence
    assert overview.facts(t.run)["progress"] == 1
    assert sentence in [s.text[0].lower() + s.text[1:-1] for s in overview.health(t.run)]
    with pytest.raises(SystemExit, match="0"):
        main(["info", str(t.run.path)])
    shown = " ".join(capsys.readouterr().out.split())
    found = copies(t.run.metrics())
    assert f"{found['copies/rate']:.1%} of {found['copies/n']} samples at step {last}" in shown
    assert "train.memorisation=off" in shown


def test_the_newest_weights_that_more_samples_confirm_are_kept(copied, tmp_path):
    """Weights that seemed good to few samples and are not give way to those before."""
    t, _ = copied
    (good,) = t.watch.kept
    state = t.players[0]
    last = {f"model/{name}": p for name, p in zip(state.names, state.flat.whole(state.flat.value), strict=True)}
    other = trainer(tmp_path / "run")
    assert other.watch.prepare() is None
    other.watch.kept = [good, Kept(last, 300, 0.0, clean=True)]
    said = other._end_before_copies(other.watch, CopyTest(0.5, 0.03, 100, 0.0), spent=True)
    assert said.endswith("train.memorisation=off and a larger --for (Python: budget=)")
    assert f"; the weights of step {good.step}, with" in said
    assert other.watch.kept == [good]
    assert torch.equal(other.players[0].ema.average, t.players[0].ema.average)


@pytest.mark.long
def test_a_resume_gives_the_same_decision(copied, tmp_path):
    whole, _ = copied
    for stop in (checks(whole.run)[1][0], checks(whole.run)[-1][0] - 1):
        part = trainer(tmp_path / "run")
        for step in part:
            if step.step == stop:
                part.save()
                break
    last = trainer(tmp_path / "run")
    assert last.step == stop
    list(last)
    assert checks(last.run) == checks(whole.run)
    assert torch.equal(weights(last), weights(whole))
    assert last.run.weights.read_bytes() == whole.run.weights.read_bytes()
    assert (last.concluded, last.copied) == (whole.concluded, True)


def test_a_stopped_run_goes_on_only_if_it_is_told_to(copied, tmp_path):
    t, _ = copied
    longer = trainer(t.run.path, budget="1400it")
    assert "the budget stays 1200it, because more time does not help this run" in longer.notes
    assert longer.progress == 1
    assert t.run.recipe.train.budget == BUDGET
    before = t.step
    spent = trainer(t.run.path, "train.memorisation=off", budget=f"{before}it")
    assert (
        f"the budget {before}it is spent: to train this run further, also give a larger --for (Python: budget=)" in spent.notes
    )
    assert spent.copied
    off = trainer(t.run.path, "train.memorisation=off", budget=f"{before + 5}it")
    assert off.step == before
    list(off)
    assert off.step == before + 5
    assert findings(off.run.metrics()) == [
        f"the model had begun to copy its training samples by step {before}, and was trained further"
    ]
    assert off.run.recipe.train.memorisation == "off"


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_without_the_stop_training_takes_its_budget(tmp_path, monkeypatch, mode):
    """`warn` says it and keeps the last weights. The steps are those of a run without the watch."""
    monkeypatch.setattr(memorisation, "LEAST", 5)
    monkeypatch.setattr(memorisation, "CHANCE", 1.1)
    monkeypatch.setattr(memorisation.CopyTest, "doubled", property(lambda self: True))
    t = trainer(tmp_path / mode, f"train.memorisation={mode}", budget="90it")
    notes = [note for step in t for note in step.notes]
    assert t.step == 90
    assert not t.copied
    assert any("the model copies its training samples" in note for note in notes) == (mode == "warn")
    assert bool(findings(t.run.metrics())) == (mode == "warn")
    assert torch.equal(t.run.load_model("cpu", "fp32").sample(4), t.finished().sample(4))


def test_the_watch_does_not_change_the_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(memorisation, "LEAST", 5)
    ran = [trainer(tmp_path / mode, f"train.memorisation={mode}", budget="90it") for mode in ("stop", "off")]
    seeds, draw = [], ran[0].draw
    monkeypatch.setattr(ran[0], "draw", lambda n, condition, chosen: seeds.extend(chosen) or draw(n, condition, chosen))
    for t in ran:
        list(t)
    assert len(set(seeds)) == len(seeds) == sum(n for _, _, n, _ in checks(ran[0].run))
    assert len(checks(ran[0].run)) > 0
    assert checks(ran[1].run) == []
    assert torch.equal(weights(ran[0]), weights(ran[1]))


@pytest.mark.long
def test_two_processes_agree(copied, tmp_path):
    """They end at one step, after the checks of one process, up to rounding."""
    np.save(tmp_path / "points.npy", points())
    command = [sys.executable, "-m", "ancestral", "train", tmp_path / "points.npy", "--for", BUDGET, "--out", tmp_path / "run"]
    done = subprocess.run(
        [*map(str, command), "--nproc", "2", "--device", "cpu", *SETTINGS],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the model has begun to copy its training samples") == 1
    run = Run(tmp_path / "run")
    assert [(step, n) for step, _, n, _ in checks(run)[:2]] == [(step, n) for step, _, n, _ in checks(copied[0].run)[:2]]
    assert run.load_checkpoint().numbers["copied"]


def test_no_false_alarm_and_no_late_one():
    """Samples as new data stop few of 200 trainings of ten checks; a share of 10 % copies is found in one check of 200."""
    random = np.random.RandomState(0)
    alarms = found = 0
    for _ in range(200):
        new = random.uniform(size=500)
        tests = [copy_test(random.uniform(size=200), new) for _ in range(10)]
        alarms += any(map(copying, tests))
        samples = random.uniform(size=200) * (random.uniform(size=200) > 0.1)
        found += copying(copy_test(samples, new))
    assert alarms <= 4
    assert found >= 198


def test_moments_follow_the_passes_and_cost_a_share_of_the_budget():
    """Checks of 100 samples' training in 100,000 images, for a network with 18 evaluations a sample and for one with 1."""
    data = load(points(120))
    n = len(data.train)
    for evaluations, least in ((18, 5), (1, 12)):
        watch, seen = MemorisationWatch(data, flip=False), []
        for images in range(50, 100_001, 50):
            if drawn := watch.due(images, images / 100_000, evaluations):
                watch.images = images
                seen.append((images, drawn))
        moments = [images for images, _ in seen]
        assert moments[0] == pytest.approx(60 * n, rel=0.02)
        assert moments[-1] == 100_000
        assert len(moments) >= least
        assert all(later >= 1.24 * sooner for sooner, later in pairwise(moments[:-1]))
        assert sum(drawn for _, drawn in seen) * evaluations / 3 <= 1.05 * memorisation.SHARE * 100_000
        assert min(drawn for _, drawn in seen) >= memorisation.LEAST
    large = MemorisationWatch(load(points(5000)), flip=False)
    assert not any(large.due(images, images / 100_000, 18) for images in range(1000, 100_001, 1000))
    assert MemorisationWatch(data, flip=False).due(2000, 1.0, 18) == 0  # too short to pay a check


def test_data_that_hide_copies_are_not_watched(tmp_path):
    """Half of the held-out samples are equal to training samples, so copies are no sign of anything."""
    few = np.repeat(points(30), 2, axis=0)
    t = trainer(tmp_path / "run", source=few, budget="60it")
    notes = [note for step in t for note in step.notes]
    assert any(note.startswith("copies of training samples are not looked for:") for note in notes)
    assert checks(t.run) == []


def test_a_mirrored_copy_is_a_copy():
    images = (np.random.RandomState(0).uniform(size=(40, 8, 8)) * 255).astype(np.uint8)
    data = load(images)
    x = data.x("train").flip(-1)
    rates = []
    for flip in (False, True):
        watch = MemorisationWatch(data, flip=flip)
        watch.prepare()
        rates.append(watch.check(x).rate)
    assert rates[0] < 0.5
    assert rates[1] == 1


def test_the_report_says_it(copied):
    t, _ = copied
    data = load(points(300))
    evaluator = Evaluator(data)
    subject = Subject("run", Samples(torch.from_numpy(points(300))), findings=findings(t.run.metrics()))
    evaluator.evaluate(subject)
    assert "begun to copy" in markdown(Comparison.of([subject], evaluator), "title")
