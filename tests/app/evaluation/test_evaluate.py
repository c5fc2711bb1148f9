"""`evaluate` and `report` from Python: anybody's samples, own metrics, several processes, and how often work is done."""

import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral import registry
from ancestral.app import evaluate as evaluate_module
from ancestral.app.evaluation import Comparison, Evaluator, Samples, Subject
from ancestral.app.evaluation.extractors.base import Pictures
from ancestral.app.training.run import Run
from ancestral.errors import DiskError, UsageError
from ancestral.runtime import Runtime

CPU = Runtime.choose("cpu", "fp32", parameters=1)
SMALL = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16", "train.previews=0")
OWN_METRIC = Path(__file__).parent / "own_metric.py"


@pytest.fixture
def _own_metrics(monkeypatch):
    """The registry with the metrics of `own_metric.py`; afterwards without them."""
    monkeypatch.setitem(registry._kinds, "metric", dict(registry._kinds["metric"]))
    monkeypatch.syspath_prepend(str(OWN_METRIC.parent))
    monkeypatch.delitem(sys.modules, "own_metric", raising=False)
    importlib.import_module("own_metric")


@pytest.fixture
def run(tmp_path):
    an.train("digits", budget="3it", out=tmp_path / "run", device="cpu", settings=SMALL)
    return tmp_path / "run"


def real(squares, n=200, seed=3):
    return squares(n, seed)[0]


@pytest.mark.parametrize("form", ["array", "tensor", "npz", "dataset"])
def test_anybodys_samples(squares, tmp_path, form):
    x, against = squares(100, 1)[0], real(squares)
    if form == "tensor":
        x = torch.from_numpy(x)
    elif form == "npz":
        np.savez(tmp_path / "x.npz", x=x)
        x = tmp_path / "x.npz"
    elif form == "dataset":
        against = an.load_data(against)
    result = an.evaluate(x, against=against, extractors=["random"], device="cpu")
    assert result.headline is result["fd-random"]
    assert result.headline.value.value > 0
    text = str(result)
    assert f"{result.headline.value}" in text
    assert "\nfd: distance of two Gaussians that are fitted to the features of samples and of\n  data\n" in text
    lines = str(result.evaluation).splitlines()
    assert all(len(line) < 90 for line in lines if "/" not in line)  # the longest are in the table


def test_samples_need_real_data(squares):
    with pytest.raises(UsageError, match="samples are compared with real data"):
        an.evaluate(squares(60)[0])


def test_own_extractor(squares):
    class Rows:
        name, about, coarse = "rows", "means of the rows", False

        def __call__(self, x, progress=None):
            return x.mean(-1).flatten(1).double().numpy()

    result = an.evaluate(squares(100, 1)[0], against=real(squares), extractors=[Rows()], device="cpu")
    assert result.headline.name == "fd-rows"


def test_every_metric_has_a_direction_and_a_meaning():
    for name in registry.names("metric"):
        metric = registry.entry("metric", name)
        assert metric.facts["better"] in ("lower", "higher", "as real"), name
        assert metric.meaning
        assert "\n" not in metric.meaning


def test_samples_of_a_sorted_file_are_chosen_at_random(squares):
    """Of 120 samples, the first 60 of another kind, 40 are compared: a half of each kind, as a note says."""
    x = np.concatenate([255 - squares(60, 1)[0], squares(60, 1)[0]])
    result = an.evaluate(x, against=squares(80, 3)[0], extractors=["random"], device="cpu")
    assert "compared are 40 of the 120 samples, chosen at random" in str(result)
    bright = result.subject.samples.x[:40].flatten(1).mean(1) > 0.5
    assert 10 <= int(bright.sum()) <= 30


@pytest.mark.usefixtures("_own_metrics")
def test_an_own_metric_appears_beside_that_of_real_data(squares):
    assert len(OWN_METRIC.read_text().splitlines()) <= 40
    for _ in range(2):  # also where the figures of real data are in the cache
        result = an.evaluate(squares(150, 1)[0], against=real(squares), extractors=["random", "coordinates"], device="cpu")
        assert result["energy-random"].better == "lower"
        assert result["energy-coordinates"].real.value >= 0
        assert result["brightness"].real.value == pytest.approx(result["brightness"].value.value, rel=0.2)
        assert "\nenergy: energy distance: 0 for equal distributions\n" in str(result)
    dark = an.evaluate(squares(150, 1)[0] // 4, against=real(squares), extractors=["random"], device="cpu")
    assert dark["energy-random"].value.value > 3 * result["energy-random"].value.value


def test_a_plugin_package_brings_a_metric_to_the_command(squares, tmp_path):
    """Installed by pip, a package needs an entry point and nothing else."""
    (tmp_path / "site" / "mine-1.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "mine-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (tmp_path / "site" / "mine-1.dist-info" / "entry_points.txt").write_text("[ancestral.plugins]\nmine = own_metric\n")
    (tmp_path / "site" / "own_metric.py").write_text(OWN_METRIC.read_text())
    np.save(tmp_path / "x.npy", squares(80, 1)[0])
    np.save(tmp_path / "real.npy", real(squares, 100))
    code = "import sys; sys.path.insert(0, 'site'); from ancestral.app.cli import main; main(sys.argv[1:])"
    words = ("evaluate", "x.npy", "--against", "real.npy", "--features", "random", "--device", "cpu")
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "energy-random" in done.stdout


@pytest.mark.usefixtures("_own_metrics")
def test_a_metric_with_wrong_facts_is_named(squares):
    an.register("metric", "odd", "nothing", better="less")(lambda x, reference: None)
    with pytest.raises(UsageError, match="the metric 'odd' is registered with unknown better 'less'"):
        an.evaluate(squares(100, 1)[0], against=real(squares), extractors=["random"], device="cpu")


def test_a_report_of_a_run_extracts_its_features_once(run, monkeypatch):
    calls = Counter()
    original = Pictures.__call__
    monkeypatch.setattr(Pictures, "__call__", lambda e, x, *args: calls.update([digest(x)]) or original(e, x, *args))
    drawn = []
    draw = evaluate_module.draw
    monkeypatch.setattr(evaluate_module, "draw", lambda *args, **options: drawn.append(draw(*args, **options)) or drawn[-1])
    assert an.report(run, n=40, extractors=["random"], device="cpu") == run / "report.html"
    x = drawn[0].x
    assert len(drawn) == 1
    assert calls[digest(x)] == 1
    assert not any(calls[digest(x[:rows])] for rows in range(1, len(x)))


def digest(x):
    return x.numpy().tobytes()


def test_a_comparison_evaluates_and_extracts_each_subject_once(data, squares, monkeypatch):
    evaluator = Evaluator(data, n=60, extractors=["random"], runtime=CPU)
    calls = Counter()
    original = Pictures.__call__
    monkeypatch.setattr(Pictures, "__call__", lambda e, x, *args: calls.update([digest(x)]) or original(e, x, *args))
    subjects = [Subject(name, Samples(torch.from_numpy(squares(60, i)[0])[:, None] / 255)) for i, name in enumerate("abc")]
    evaluator.evaluate(subjects[0])
    comparison = Comparison.of(subjects, evaluator)
    assert len(comparison.pairs) == 3
    assert [calls[digest(s.samples.x)] for s in subjects] == [1, 1, 1]
    again = Comparison.of(subjects, evaluator)
    assert [s.evaluation for s in again.subjects] == [s.evaluation for s in comparison.subjects]
    assert sum(calls.values()) == 3


def test_an_evaluation_that_was_not_made_is_not_read():
    with pytest.raises(UsageError, match="x has not been evaluated"):
        _ = Subject("x", Samples(torch.rand(20, 1, 4, 4))).evaluation


def test_a_process_that_helps_to_draw_returns(run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert an.evaluate(run, n=40, extractors=["random"], device="cpu") is None
    assert an.report(run, n=40, extractors=["random"], device="cpu") is None
    assert not (run / "evaluation.json").exists()


def test_compare_takes_one_source_as_it_is():
    with pytest.raises(UsageError, match="unknown model 'difusion': did you mean 'diffusion'"):
        an.compare("digits", models=["difusion"])


def test_a_full_disk_ends_a_comparison(tmp_path, monkeypatch):
    """A model whose training stopped for want of room is not compared as if it had failed."""
    append = Run.append_metrics

    def full(self, row):
        append(self, row)
        if row.get("step") == 2:
            monkeypatch.setattr(Run, "append_metrics", append)
            raise DiskError("no space left on device")

    monkeypatch.setattr(Run, "append_metrics", full)
    settings = ("train.previews=0", "model.width=8", "train.checkpoint_every=1e-6")
    with pytest.raises(DiskError, match="no space"):
        an.compare("moons", models=["vae"], budget="3it", out=tmp_path, n=64, settings=settings, device="cpu")
