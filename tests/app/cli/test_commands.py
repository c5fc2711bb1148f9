"""The command line as people and machines use it."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from torch import nn

import ancestral as an
from ancestral.app.cli import COMMANDS, app, main

SMALL = ["model.channels=[8, 16]", "model.blocks=1", "train.batch=16"]


def begin(folder, *words):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "ancestral", "train", "digits", *SMALL, "--out", str(folder), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, command):
    """A finished run of digits by class."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    done = command("train", "digits", *SMALL, "--for", "30it", "--condition", "class", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for words in ("digits: 1,618 samples of 1x8x8", "30it", "done: 30 steps", f"samples: {folder}"):
        assert words in done.stderr
    return folder


def test_help_teaches(command):
    text = command("--help").stdout
    for words in ("train", "sample", "info", "ancestral train digits"):
        assert words in text
    text = command("train", "--help").stdout
    for words in ("--for", "--out", "--size", "--condition", "fashion-mnist", "section.name=value"):
        assert words in text
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", command("--version").stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_its_whole_docstring(name, command):
    """The list of commands, the command and the documentation begin with the same sentence."""
    about = app[name].default_command.__doc__.partition("Parameters\n")[0]
    assert about.splitlines()[0] == COMMANDS[name]
    shown = " ".join(command(name, "--help").stdout.split())
    assert shown.startswith(f"Usage: ancestral {name}")
    assert " ".join(about.replace("`", "").split()) in shown
    assert not re.search(r"--no-(json|quiet)|\[ARGS|default: (False|None)", shown)
    assert COMMANDS[name] in " ".join(command("--help").stdout.replace("│", " ").split())


def test_a_finished_run_says_so(run, command):
    again = command("train", "digits", *SMALL, "--for", "30it", "--condition", "class", "--out", run)
    assert again.returncode == 0
    assert "is finished: 30 steps" in again.stderr
    result = json.loads(
        command("train", "digits", *SMALL, "--for", "30it", "--condition", "class", "--out", run, "--json").stdout
    )
    assert result["state"] == "finished before"
    assert result["step"] == 30


def arrays(file):
    with np.load(file) as stored:
        return dict(stored)


def test_sample_to_picture_array_and_folder(run, tmp_path, command):
    done = command("sample", run, "-n", 9, "--steps", 3, "--out", tmp_path / "grid.png", "--trajectory", tmp_path / "way.gif")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "grid.png") as picture, Image.open(tmp_path / "way.gif") as film:
        assert picture.size == (152, 152)
        assert film.n_frames == 4
    assert command("sample", run, "--seeds", "3,7,9", "--steps", 3, "--out", tmp_path / "some.npz", "-q").stderr == ""
    stored = arrays(tmp_path / "some.npz")
    assert stored["x"].shape == (3, 1, 8, 8)
    assert stored["x"].dtype == np.uint8
    assert stored["x"].max() <= 16
    assert stored["seeds"].tolist() == [3, 7, 9]
    command("sample", run, "--seeds", "9,7", "--steps", 3, "--out", tmp_path / "two.npz")
    assert np.abs(arrays(tmp_path / "two.npz")["x"].astype(int) - stored["x"][[2, 1]]).max() <= 1
    result = json.loads(command("sample", run, "-n", 2, "--steps", 2, "--out", tmp_path / "folder", "--json").stdout)
    assert result["n"] == 2
    assert result["nfe"] == 2
    assert len(list((tmp_path / "folder").glob("*.png"))) == 2
    strip = command(
        "sample", run, "-n", 4, "--steps", 5, "--trajectory", tmp_path / "way.png", "--class", "7", "--guidance", "2"
    )
    assert strip.returncode == 0, strip.stderr
    assert (run / "samples.png").exists()


def test_info(run, command):
    text = command("info", run).stdout
    for words in ("finished", "diffusion", "1,618 samples of 1x8x8", "30 steps", "condition", "step-00000030.png", "loss per"):
        assert words in text
    facts = json.loads(command("info", run, "--json").stdout)
    assert facts["step"] == 30
    assert facts["data"]["levels"] == 17
    assert command("info", run, "--quiet").stdout.count("\n") == 1


def test_info_names_what_evaluates_a_run(run, tmp_path, command):
    assert "not evaluated yet: ancestral report" in command("info", run).stdout
    model, own = an.Diffusion(Network(), shape=(2,)), tmp_path / "own"
    an.train("moons", model=model, budget="2it", out=own, device="cpu", quiet=True, settings=("train.previews=0",))
    told = re.sub(r"\s+", "", command("info", own).stdout)  # lines wrap
    assert f"notevaluatedyet:inPython`ancestral.report('{own}',network=Network(...))`" in told
    page = an.report(str(own), network=Network())
    assert (page, page.exists()) == (own / "report.html", True)
    assert "quality    fd-coordinates" in command("info", own).stdout


class Network(nn.Linear):
    """A network of one's own."""

    def __init__(self):
        super().__init__(2, 2)

    def forward(self, z, logsnr, context=None):
        return super().forward(z)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "digitz"], 2, "unknown source 'digitz': did you mean 'digits'?"),
        (["train", "digits", "--for", "soon"], 2, "cannot read the budget 'soon'"),
        (["train", "digits", "--fro", "2m"], 2, "--fro"),
        (["train", "digits", "--for", "90"], 2, "cannot read the budget '90'"),
        (["train", "digits", "train.bacth=3"], 2, "unknown setting 'train.bacth': did you mean 'batch'?"),
        (["train", "digits", "--model", "difusion"], 2, "unknown model 'difusion': did you mean 'diffusion'?"),
        (["train", "digits", "--device", "tpu"], 2, "the device 'tpu' is not available here"),
        (["train", "moons", "--condition", "text"], 2, "moons has no captions"),
        (["train", "no/such/folder"], 2, "there is no file or folder 'no/such/folder'"),
        (["sample", "runs/nothing"], 2, "the run folder runs/nothing does not exist"),
        (["info", "."], 2, "holds no run"),
        (["trian", "digits"], 2, "train"),
    ],
)
def test_wrong_requests_are_one_sentence(words, code, message, tmp_path, command):
    done = command(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    machine = command(*words, "--json", cwd=tmp_path)
    assert machine.returncode == code
    assert json.loads(machine.stdout)["exit_code"] == code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "digits", "--models", "vae", "gan"], "several models take commas: --models vae,gan"),
        (
            ["train", "digits", "--condition", "class", "text"],
            "several conditions take commas (train, compare: --condition class,text)",
        ),
        (["sample", "runs/x", "--seeds", "3", "7"], "unexpected 7: an option with several values takes them with commas"),
    ],
)
def test_values_without_commas_are_one_sentence(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--solver", "hean"], "unknown solver 'hean': did you mean 'heun'?"),
        (["--class", "dog"], "unknown class 'dog'"),
        (["--out", "x.bmp"], "cannot write x.bmp: --out takes .png, .npz, .csv, a folder"),
        (["--seeds", "3,x"], "cannot read the seeds '3,x'"),
        (["-n", "0"], "must be at least 1"),
        (["--steps", "0"], "at least 1"),
        (["--batch", "-1"], "at least one at a time"),
        (["--seed", "-1"], "a seed is a whole number from 0"),
        (["--guidance", "2"], "give one with --class, --prompt"),
        (["--legend"], "give a condition, and write a .png"),
    ],
)
def test_wrong_options_of_sample_are_one_sentence(run, words, message, tmp_path, command):
    done = command("sample", run, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_run_of_another_recipe(run, command):
    done = command("train", "digits", *SMALL, "train.batch=17", "--for", "30it", "--condition", "class", "--out", run)
    assert done.returncode == 2
    assert "holds a run of another recipe (train.batch: 16 -> 17)" in done.stderr


def test_a_run_folder_that_cannot_be_written(tmp_path, command):
    (tmp_path / "file").write_text("")
    done = command("train", "digits", *SMALL, "--for", "3it", "--out", tmp_path / "file" / "run")
    assert done.returncode == 1, done.stderr
    assert "cannot write to" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_fills_up(tmp_path, command):
    """Writes of more than 100 kB fail, as on a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        done = command("train", "digits", *SMALL, "--for", "3it", "--out", tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.returncode == 1, done.stderr
    assert "cannot write to" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_model(tmp_path, run, command):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "model" / "model.safetensors").write_bytes(b"\0" * 100)
    done = command("sample", copy)
    assert done.returncode == 1
    assert "model.safetensors is damaged" in done.stderr
    (copy / "model" / "config.json").write_text("{")
    assert "config.json is damaged" in command("sample", copy).stderr
    done = command("train", "digits", "--out", copy)
    assert done.returncode == 0, done.stderr
    assert command("sample", copy, "-n", 1, "--steps", 1).returncode == 0, "the same command writes the model again"
    for file in (copy / "checkpoints").iterdir():
        file.write_bytes(b"")
    done = command("train", "digits", "--out", copy)
    assert done.returncode == 1
    assert "every checkpoint in" in done.stderr


def wait_for(condition, process, seconds=60.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)])
def test_a_signal_saves_and_says_how_to_continue(tmp_path, number, code):
    folder = tmp_path / "run"
    process = begin(folder, "--for", "100000it")
    wait_for((folder / "metrics.jsonl").exists, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "stopped and saved at step" in said
    assert "continue with the same command" in said
    assert "Traceback" not in said
    assert list((folder / "checkpoints").glob("step-*.safetensors"))


def newest(folder):
    """The last checkpoint's name; "" before the first."""
    return max((file.name for file in (folder / "checkpoints").glob("step-*.safetensors")), default="")


@pytest.mark.full
def test_killed_three_times_and_continued_the_weights_are_those_of_the_uninterrupted_run(tmp_path):
    words = ["--for", "600it", "train.checkpoint_every=0.05"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    process = begin(whole, *words)
    process.communicate(timeout=120)
    assert process.returncode == 0
    moments = random.Random(7)
    kills = 0
    while kills < 3:
        process = begin(parts, *words)
        before = newest(parts)
        wait_for(lambda: newest(parts) > before, process)  # noqa: B023
        time.sleep(moments.uniform(0, 0.8))
        assert process.poll() is None, "killed too late to prove anything"
        process.kill()
        process.communicate()
        kills += 1
    process = begin(parts, *words)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "continuing at step" in said
    read = lambda folder: (folder / "model" / "model.safetensors").read_bytes()  # noqa: E731
    assert read(whole) == read(parts)
    steps = [json.loads(line)["step"] for line in (parts / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_a_folder_with_broken_files(tmp_path, command):
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
    (tmp_path / "images" / "cats" / "broken.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "images" / "dogs" / "notes.txt").write_text("no picture")
    words = ["train", tmp_path / "images", "--size", "16x24", "--for", "3it", "--condition", "class", *SMALL]
    done = command(*words, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "broken.png" in done.stderr
    assert "16 images" in done.stderr
    sampled = command("sample", tmp_path / "run", "-n", 2, "--class", "dogs", "--steps", 2, "--out", tmp_path / "out")
    assert sampled.returncode == 0, sampled.stderr
    with Image.open(next((tmp_path / "out").iterdir())) as picture:
        assert (picture.size, picture.mode) == ((24, 16), "RGB")


def test_an_empty_folder_and_an_array_with_nan(tmp_path, command):
    (tmp_path / "empty").mkdir()
    done = command("train", tmp_path / "empty", "--for", "3it")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "no image" in done.stderr
    np.save(tmp_path / "x.npy", np.array([[1.0, np.nan]] * 5))
    done = command("train", tmp_path / "x.npy", "--for", "3it")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "NaN" in done.stderr or "not finite" in done.stderr


def test_a_number_is_a_name_where_labels_are_numbers_and_the_classes_drawn_are_said(tmp_path, command):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (60, 8, 8), dtype=np.uint8), np.array([3, 77, 500])[np.arange(60) % 3]
    np.savez(tmp_path / "gaps.npz", x=x, y=y)
    words = ["train", tmp_path / "gaps.npz", "--for", "3it", "--condition", "class", *SMALL, "--out", tmp_path / "run"]
    assert command(*words).returncode == 0
    sample = ["sample", tmp_path / "run", "--steps", 2, "--out", tmp_path / "x.png"]
    unknown = command(*sample, "--class", "0")
    assert unknown.returncode == 2
    assert "unknown class '0'. Known: 3, 77, 500" in unknown.stderr
    assert "3 samples of classes 500, 3, 77 in" in command(*sample, "--class", "500,3,77").stderr
    result = json.loads(command(*sample, "--class", "77,3", "-n", 3, "--json").stdout)
    assert result["classes"] == ["77", "3", "77"]
    assert "classes" not in json.loads(command(*sample, "-n", 2, "--json").stdout)


def test_many_samples_are_announced_or_refused_before_they_are_drawn(run, tmp_path, monkeypatch, capsys):
    import shutil

    import psutil

    from ancestral.app.cli import main, sample

    def refused(*words):
        with pytest.raises(SystemExit) as done:
            main(["sample", str(run), *map(str, words)])
        return done.value.code, " ".join(capsys.readouterr().err.split())

    free = {"available": 10**9, "total": 10**9}
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), free))
    code, said = refused("-n", 100_000_000, "--out", tmp_path / "x.npz")
    assert code == 2
    assert "100,000,000 samples of 1x8x8 need about 121.6 GB of memory, and 1.0 GB are free" in said
    assert "in parts of at most 400,000, each with another --seed and --out" in said
    words = ("-n", 8, "--batch", 4, "--steps", 1)
    monkeypatch.setattr(sample, "LONG", 0)
    for out in ("x.npz", "x.png", "folder"):
        code, said = refused(*words, "--out", tmp_path / out)
        assert code == 0
        assert re.search(r"8 samples take about \d+s, and \d+ kB in ", said)
        assert "take about" not in refused(*words, "--out", tmp_path / out, "-q")[1]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Disk", (), {"free": 100}))
    code, said = refused(*words, "--out", tmp_path / "y.npz")
    assert code == 2
    assert "and 0 kB are free there: give a smaller -n, or an --out on another disk" in said
    assert not (tmp_path / "y.npz").exists()
