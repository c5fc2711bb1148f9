"""evaluate, compare and report as a person runs them."""

import base64
import json
import re
import shutil
import sys
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral.app.cli import main
from ancestral.app.evaluation.samples import at_levels, draw, first_states
from ancestral.app.progress import browse

SETTINGS = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16", "train.previews=0")
OF_POINTS = ("model.width=16", "train.batch=64", "train.previews=0")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all: the classifier of digits is trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_place(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("ANCESTRAL_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _little_work(monkeypatch):
    from ancestral.app import compare
    from ancestral.app.data import toys
    from ancestral.app.evaluation import classes, live
    from ancestral.app.evaluation.extractors import classifier

    monkeypatch.setattr(classifier, "SEEN", 3000)
    monkeypatch.setattr(classes, "CAS_SEEN", 1000)
    monkeypatch.setattr(compare, "SWEEP", (2, 3))
    monkeypatch.setattr(compare, "SWEEP_N", 40)
    monkeypatch.setattr(live, "N", 60)
    monkeypatch.setattr(toys, "TRAIN", 2000)
    monkeypatch.setattr(toys, "TEST", 400)


def ask(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "a"
    an.train("digits", budget="10it", out=path, device="cpu", quiet=True, settings=SETTINGS)
    return path


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "runs/a")
    return "runs/a"


def test_evaluate_a_run(run, capsys, tmp_path):
    options = ("-n", "60", "--features", "random,classifier", "--steps", "2", "--device", "cpu")
    code, out, err = ask(capsys, "evaluate", run, *options)
    assert code == 0, err
    for name in ("fd-random", "kid-classifier", "recall-random", "copy-rate", "samples a second", "real data"):
        assert name in out, out
    assert re.search(r"^runs/a: its distance is [\d.]+ times that of real data .*\. Train longer", out, re.M), out
    assert "60 samples against 179 held-out samples of digits" in out
    assert (tmp_path / "runs/a/evaluation.json").is_file()
    code, out, _ = ask(capsys, "evaluate", run, *options, "--json")
    found = json.loads(out)
    assert found["n"] == 60
    assert found["how"] == {"steps": "2"}
    code, out, _ = ask(capsys, "evaluate", run, "-n", "60", "--features", "random", "--steps", "2", "--device", "cpu", "-q")
    assert re.fullmatch(r"fd-random [\d.]+ ± [\d.]+ \(real data [\d.]+ ± [\d.]+\)\n", out)
    code, _, err = ask(capsys, "evaluate", run, "-n", "60", "--features", "inception")
    assert code == 1
    assert "--inception-weights" in err
    code, _, err = ask(capsys, "evaluate", run, "-n", "60", "--features", "random", "--solver", "hean")
    assert code == 2
    assert "did you mean 'heun'" in err


def test_evaluate_folders_of_other_software(capsys, tmp_path):
    random = np.random.default_rng(0)
    for name, brightness in (("real", 120), ("same", 120), ("dark", 30)):
        (tmp_path / name).mkdir()
        for i in range(60):
            Image.fromarray(random.integers(0, 2 * brightness, size=(16, 20, 3)).astype(np.uint8)).save(
                tmp_path / name / f"{i}.png"
            )
    figures = {}
    for name in ("same", "dark"):
        code, out, err = ask(capsys, "evaluate", name, "--against", "real", "--features", "random", "--json", "--out", "e.json")
        assert code == 0, err
        found = json.loads(out)
        assert found["against"] == "all"
        assert found["n"] == 30
        assert json.loads((tmp_path / "e.json").read_text())["subject"] == name
        figures[name] = found["metrics"][0]["value"]["value"]
    assert figures["dark"] > 10 * figures["same"]
    code, _, err = ask(capsys, "evaluate", "same")
    assert code == 2
    assert "--against SOURCE" in err


@pytest.mark.long
def test_report_of_a_run(run, capsys, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")
    code, out, err = ask(capsys, "report", run, "-n", "60", "--features", "random", "--device", "cpu", "--open")
    assert code == 0, err
    assert opened == [(tmp_path / "runs/a/report.html").as_uri()]
    page = (tmp_path / "runs/a/report.html").read_text()
    assert out.strip() == "runs/a/report.html"
    assert "Learned or copied?" in page
    assert not re.search(r"(src|href)=.https?:", page)
    assert page.count("data:image/png;base64,") >= 4
    film = Image.open(BytesIO(base64.b64decode(re.search(r"data:image/webp;base64,([^\"]+)", page)[1])))
    assert film.n_frames > 1  # an encoder joins pictures that look the same
    film.seek(film.n_frames - 1)
    last = re.search(r"print\" srcset=\"data:image/png;base64,([^\"]+)", page)[1]
    difference = np.asarray(film.convert("L"), float) - np.asarray(Image.open(BytesIO(base64.b64decode(last))), float)
    assert np.abs(difference).mean() < 4  # WebP is lossy
    for command in ("train digits --for 50it --out runs/a", "sample runs/a -n 64", "tune runs/a", "compare digits"):
        assert f"<code>ancestral {command}</code>" in page
        assert f"- ancestral {command}: " in (tmp_path / "runs/a/report.md").read_text()


def test_a_report_of_samples_names_the_command_for_them(capsys, tmp_path):
    (tmp_path / "drawn").mkdir()
    code, _, err = ask(capsys, "report", "drawn", "--against", "digits")
    assert (code, err.count("`ancestral evaluate drawn --against DATA`")) == (2, 1)


def test_no_browser_opens_without_a_screen(monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not browse("http://127.0.0.1")
    assert opened == []
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert browse("http://127.0.0.1")
    assert opened == ["http://127.0.0.1"]


def test_the_film_ends_at_the_samples_of_the_report(run):
    model, data = an.load(run), an.load_data("digits")
    states = first_states(model, data, {"steps": 3})
    assert len(states) == 4  # noise, and three steps
    assert torch.equal(at_levels(states[-1], data), draw(model, data, 30, how={"steps": 3}).x[:25])


def test_a_model_of_one_step_has_no_film(tmp_path):
    an.train(
        "digits", model="vae", budget="2it", out=tmp_path / "runs/v", device="cpu", quiet=True, settings=("train.previews=0",)
    )
    page = an.report(tmp_path / "runs/v", n=40, extractors=["random"], device="cpu").read_text()
    assert "webp" not in page
    assert "From noise to samples" not in page


@pytest.mark.long
def test_compare_uses_finished_runs_and_reports(capsys, tmp_path):
    folder = tmp_path / "runs/compare-digits"
    an.train("digits", "diffusion", "8it", folder / "diffusion", device="cpu", quiet=True, settings=SETTINGS)
    options = ("--for", "8it", "-n", "60", "--device", "cpu", "--features", "random,classifier")
    words = ("compare", "digits", "--models", "diffusion", *options)
    code, out, err = ask(capsys, *words)
    assert code == 0, err
    assert "diffusion" in out
    assert "copy repeats its training data" in out
    page = (folder / "report.html").read_text()
    for name in ("diffusion", "gaussian", "mixture", "kernel", "copy", "Which differences are real"):
        assert name in page
    assert not re.search(r"(src|href)=.https?:", page)
    assert "| fd-random (less is better) |" in (folder / "report.md").read_text()
    stored = json.loads((folder / "report.json").read_text())
    assert set(stored["baselines"]) == {"gaussian", "mixture", "kernel", "copy"}
    code, again, err = ask(capsys, *words)
    assert code == 0
    assert "uses the finished run" in err
    assert again == out


def test_compare_trains_each_family_several_times(capsys, tmp_path):
    """The run of the first seed is used again, the other stands beside it, and both are one subject, also as run folders."""
    from ancestral.app.compare import _by_recipe
    from ancestral.app.training.run import Run

    folder = tmp_path / "runs/compare-moons"
    an.train("moons", "gan", "3it", folder / "gan", device="cpu", quiet=True)
    weights = (folder / "gan/model/model.safetensors").read_bytes()
    words = ("--models", "gan", "--for", "3it", "--seeds", "2", "-n", "40", "--device", "cpu", "--json")
    code, out, err = ask(capsys, "compare", "moons", *words)
    assert code == 0, err
    found = json.loads(out)
    assert not any("one training" in sentence for sentence in found["verdict"])
    assert (folder / "gan/model/model.safetensors").read_bytes() == weights
    assert (folder / "gan-seed1/model/model.safetensors").read_bytes() != weights
    assert an.load(folder / "gan-seed1").config() == an.load(folder / "gan").config()
    subjects = {e["subject"]: e["trainings"] for e in found["evaluations"]}
    assert subjects == {"gan": 2} | dict.fromkeys(("gaussian", "mixture", "kernel", "copy"), 1)
    assert [e["subject"] for e in found["trainings"]["gan"]] == ["gan, seed 0", "gan, seed 1"]
    assert "each training of gan" in (folder / "report.html").read_text()
    first, second = Run(folder / "gan"), Run(folder / "gan-seed1")
    assert _by_recipe([first, second]) == {str(first.path): [first, second]}
    longer = Run(tmp_path / "longer")
    longer.create(first.recipe.model_copy(update={"train": first.recipe.train.model_copy(update={"budget": "9it"})}))
    same = Run(tmp_path / "same")
    same.create(first.recipe)
    groups = _by_recipe([first, longer, same])  # another budget is another recipe, and equal seeds are no second training
    assert groups == {str(run.path): [run] for run in (first, longer, same)}
    code, _, err = ask(capsys, "compare", "moons", "--seeds", "0")
    assert code == 2
    assert "trained at least once" in err


def test_compare_runs(run, capsys):
    ask(capsys, "train", "digits", "--for", "5it", "--out", "runs/b", "--device", "cpu", "-q", *SETTINGS)
    code, out, err = ask(capsys, "compare", "runs/a", "runs/b", "-n", "60", "--features", "random", "--device", "cpu", "--json")
    assert code == 0, err
    names = [e["subject"] for e in json.loads(out)["evaluations"]]
    assert {"runs/a", "runs/b"} < set(names)
    code, out, err = ask(capsys, "sample", "runs/a", "-n", "60", "--steps", "2", "--out", "theirs.npz", "-q", "--device", "cpu")
    assert code == 0, err
    words = ("compare", "runs/a", "theirs.npz", "-n", "60", "--features", "random", "--device", "cpu", "--json")
    code, out, err = ask(capsys, *words)
    assert code == 0, err
    assert {"runs/a", "theirs.npz"} < {e["subject"] for e in json.loads(out)["evaluations"]}
    ask(capsys, "train", "moons", "--for", "2it", "--out", "runs/c", "--device", "cpu", "-q", *OF_POINTS)
    code, _, err = ask(capsys, "compare", "runs/a", "runs/c")
    assert code == 2
    assert "of different data" in err
    code, _, err = ask(capsys, "compare", "runs/a", "digits")
    assert code == 2
    assert "not a run folder: digits" in err
    code, _, err = ask(capsys, "compare", "runs/a", "runs/b", "--for", "1m")
    assert code == 2
    assert "existing runs cannot be changed" in err
    code, _, err = ask(capsys, "evaluate", "runs/a", "--likelihood", "--steps", "9")
    assert code == 2
    assert "draws no samples: leave --steps out" in err
    code, _, err = ask(capsys, "compare", "digits", "--models", "difusion")
    assert code == 2
    assert "did you mean 'diffusion'" in err


@pytest.mark.parametrize(
    "words", ["CUDA out of memory. Tried", "DefaultCPUAllocator: can't allocate memory", "not enough memory"]
)
def test_a_full_memory_is_one_sentence(capsys, monkeypatch, words):
    from ancestral.app import api

    def full(*args, **options):
        raise RuntimeError(words)

    monkeypatch.setattr(api, "plan", full)
    monkeypatch.setattr("ancestral.app.evaluate.evaluate", full)
    for command, remedy in (("train", "lower train.batch or raise train.accumulate"), ("evaluate", "lower -n")):
        code, _, err = ask(capsys, command, "digits")
        assert code == 1
        assert f"the memory is full: {remedy}\n" in err


def test_bernoulli_on_grey_data_is_evaluated_without_a_likelihood(capsys):
    """Its cross-entropy stands in no column of likelihoods, and is refused by name where one is asked for."""
    settings = ("model.likelihood=bernoulli", "model.width=8", "train.previews=0")
    code, _, err = ask(
        capsys, "train", "digits", "--model", "vae", "--for", "5it", "--out", "runs/grey", "--device", "cpu", "-q", *settings
    )
    assert code == 0, err
    code, out, err = ask(capsys, "evaluate", "runs/grey", "-n", 40, "--features", "random", "--device", "cpu", "--json")
    assert code == 0, err
    assert not any(metric["name"].startswith("bits") for metric in json.loads(out)["metrics"])
    code, _, err = ask(capsys, "evaluate", "runs/grey", "--likelihood", "--device", "cpu")
    assert code == 2
    assert "is not a likelihood" in " ".join(err.split())


def test_training_with_live_evaluation(capsys):
    words = ("train", "digits", "--for", "12it", "--evaluate-every", "6it", "--device", "cpu", *SETTINGS)
    code, _, err = ask(capsys, *words, "--out", "runs/live")
    assert code == 0, err
    assert "kid-classifier" in err
    code, _, err = ask(capsys, "train", "digits", "--for", "5it", "--patience", "2", "--out", "runs/none")
    assert code == 2
    assert "--evaluate-every" in err


def test_from_python(run):
    found = an.evaluate(run, n=60, extractors=["random"], how={"steps": 2}, device="cpu").evaluation
    assert found.headline.name == "fd-random"
    assert found.cost["nfe"] == 2
