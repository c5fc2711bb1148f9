"""Every benchmark runs from its command to its figures on little work, but for what needs packages that are not installed."""

import ast
import importlib
import io
import json
import math
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from threadpoolctl import threadpool_limits

import ancestral
from ancestral.app.data import load

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
COMMANDS = [path.stem for path in SCRIPTS if "__main__" in path.read_text(encoding="utf-8")]
SMALL = ("model.channels=[8,16]", "model.blocks=1", "train.batch=16", "train.previews=0")


def absent(*modules):
    missing = [module for module in modules if find_spec(module) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder of what the tests share, with a cache of its own."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture
def bench(shared, tmp_path, monkeypatch, capsys):
    """A function that runs the command of a benchmark in an empty folder and returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANCESTRAL_CACHE", str(shared / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of their processes
    monkeypatch.syspath_prepend(str(FOLDER))
    with suppress(ModuleNotFoundError):  # peers.py turns the bars off
        monkeypatch.setattr("tqdm.tqdm.__init__", importlib.import_module("tqdm").tqdm.__init__)

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        try:
            runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            assert not end.code, end.code  # noqa: PT017
        return capsys.readouterr().out

    with threadpool_limits(1):  # threads of BLAS that wait for a busy core cost more than the work
        yield run
    for script in SCRIPTS:
        sys.modules.pop(script.stem, None)


@pytest.fixture(scope="module")
def pictures(shared):
    """Digits of 28x28 with their classes, in the place of fashion-mnist."""
    file, digits = shared / "pictures.npz", load("digits", size=28)
    split = {"x": digits.train.array[:80, 0], "y": digits.train.labels[:80]}
    split |= {"x_test": digits.train.array[80:620, 0], "y_test": digits.train.labels[80:620]}
    np.savez(file, **{name: values.numpy() for name, values in split.items()})
    return file


@pytest.fixture(scope="module")
def trained(shared, pictures):
    """A function that returns a run of two steps on the data of that name."""

    def run(source, *settings, **options):
        out = shared / f"run-{Path(source).stem}"
        if not out.exists():
            ancestral.train(str(source), "diffusion", "2it", out, quiet=True, settings=settings, **options)
        return out

    return run


@pytest.fixture(scope="module")
def packages(shared):
    """The two packages of emoji, of few made-up ones, as npm packs them."""
    rows, files = [], {}
    for i in range(60):
        code, category = f"{0x1F600 + i:X}", ("People", "Objects")[i % 2]
        row = {"name": f"THING {i}", "unified": code, "category": category, "image": f"{code.lower()}.png"}
        tones = ("1F3FB", "1F3FD", "1F3FF") if i < 20 else ()
        row["skin_variations"] = {tone: {"image": f"{code}-{tone}.png".lower()} for tone in tones}
        rows.append(row)
        for name in (row["image"], *(one["image"] for one in row["skin_variations"].values())):
            picture, stored = Image.new("RGBA", (64, 64)), io.BytesIO()
            ImageDraw.Draw(picture).ellipse((4, 4, 40 + i % 20, 60), fill=(4 * i, 250 - 4 * i, 128 * (i % 2), 255))
            picture.save(stored, "PNG")
            files[name] = stored.getvalue()
    folder = shared / "packages"
    folder.mkdir()
    for style in ("twitter", "google"):
        with tarfile.open(folder / f"emoji-datasource-{style}-16.0.0.tgz", "w:gz") as archive:
            named = {f"img/{style}/64/{name}": stored for name, stored in files.items()}
            for name, stored in {"emoji.json": json.dumps(rows).encode(), **named}.items():
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(stored)
                archive.addfile(member, io.BytesIO(stored))
    return folder


def emoji(bench, packages, *words):
    """A folder as `emoji.py` prepares it."""
    folder = Path("emoji")
    folder.mkdir()
    (folder / "packages").symlink_to(packages)
    counts = bench("emoji", folder, *words).split()
    assert counts[::3] == ["train:", "test:"]
    assert min(map(int, counts[1::3])) > 2
    return folder


def finite(found, but=()):
    """Whether JSON holds figures and all of them are finite, apart from those of the names in `but`."""
    if isinstance(found, dict):
        found = [value for name, value in found.items() if name not in but]
    if isinstance(found, list):
        return bool(found) and all(finite(one, but) for one in found)
    return not isinstance(found, float) or math.isfinite(found)


def read(file):
    return json.loads(Path(file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_names_of_ancestral_exist(script):
    wanted = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ancestral"
        for alias in node.names
    ]
    for module, name in wanted:
        found = importlib.import_module(module)
        if not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_explains_itself(bench, name):
    assert "usage:" in bench(name, "--help")


def test_each_command_is_run_here():
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    assert {name for name in COMMANDS if not any(f"test_{name}" in test.__name__ for test in tests)} == set()


@pytest.mark.full
def test_speed(bench):
    """All sections; of the peers those that are installed."""
    little = ("--seconds-per-variant", 0.1, "--seconds-per-turn", 0.1, "--processes", 1, "--batch", 2, "--threads", 1)
    printed = bench("speed", *little, "--json", "speed.json")
    found = read("speed.json")
    assert {"startup", "memory", "training", "sampling", "latency", "overhead", "toys", "goals", "finished"} <= found.keys()
    assert finite(found)
    for section in ("training", "sampling", "latency", "toys"):
        assert found[section]["ancestral, default"]["median"] > 0
    for title in ("Start-up", "Peak resident memory", "Training", "Sampling", "Latency", "Overhead", "Points", "Goals"):
        assert f"## {title}" in printed


@pytest.mark.full
def test_studio(bench):
    pytest.importorskip("playwright")
    printed = bench("studio", "--walks", 1)
    assert printed.count("walk: ") == 1


@pytest.mark.full
def test_processes(bench):
    printed = bench("processes", "--steps", 2, "--cases", "digits 8x8, 2.0 M", "--json", "processes.json")
    one, two = read("processes.json")["digits 8x8, 2.0 M"].values()
    assert one["communication"] < 0.01 < two["communication"] < 1
    assert min(one["rate"], two["rate"]) > 0
    assert "| digits 8x8, 2.0 M | 2 |" in printed


@pytest.mark.full
def test_long(bench):
    printed = bench("long", "--family", "score", "--steps", 400)
    row = [cell.strip() for cell in printed.splitlines()[-1].split("|")[1:-1]]
    assert row[:2] == ["score", "400"]
    before, after = (float(cell) for cell in row[2].removesuffix(" MB").split(", "))
    assert 0 < before <= after * 1.5


@pytest.mark.full
def test_kills(bench):
    printed = bench("kills", "--kills", 3, "--only", "gan", "--seed", 1)
    trials, timed, placed, compared, left_out, bad = map(int, printed.splitlines()[-1].strip("| ").split(" | ")[1:])
    assert trials >= 1
    assert timed + placed >= 3
    assert compared > left_out
    assert bad == 0


def test_the_kills_are_found_where_they_do_harm(tmp_path, monkeypatch):
    """A file that differs is named; a row of the log that only one trial has is no difference."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import kills

    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "loss": 1.5, "seconds": 2}\n', encoding="utf-8")
    (tmp_path / "a.json").write_text('{"b": [1, {"c": 2}]}', encoding="utf-8")
    (tmp_path / "x.bin").write_bytes(b"x")
    found = kills.contents(tmp_path)
    before = found.pop("x.bin")
    (tmp_path / "x.bin").write_bytes(b"y")
    assert kills.contents(tmp_path)["x.bin"] != before
    assert found == {"metrics.jsonl/step 3/step": 3, "metrics.jsonl/step 3/loss": 1.5, "a.json/b/0": 1, "a.json/b/1/c": 2}


@pytest.mark.full
def test_large(bench):
    printed = bench("large", "--images", 60, "--side", 16, "--folder", "large", *SMALL)
    assert printed.count("first step done") == 4


@pytest.mark.full
def test_growth(bench):
    printed = bench("growth", "--only", "batch", "--values", 2, 4, "--json", "growth.json", "--plot", "growth.png")
    points = read("growth.json")["axes"]["batch"]
    assert points[1]["flops"] == pytest.approx(2 * points[0]["flops"])
    assert finite(points)
    assert printed.count("| batch |") == 2
    with Image.open("growth.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.long
def test_memorisation(bench, monkeypatch):
    """One set, one training that is followed, and the onset on a logarithmic axis."""
    import memorisation

    assert memorisation.crossing([(100, 0.0), (400, 0.04)], 0.02) == pytest.approx(200)
    assert memorisation.crossing([(100, 0.0), (400, 0.01)], 0.02) is None
    printed = bench("memorisation", "--only", "sets", "--sets", "moons 50", "--for", "30it", "--json", "found.json")
    assert "| moons 50 | diffusion | stop |" in printed
    words = (
        "--only",
        "onset",
        "--samples",
        "20",
        "--seeds",
        "1",
        "--most",
        "6000",
        "--json",
        "found.json",
        "--plot",
        "found.png",
    )
    assert "| 18 | 0 |" in bench("memorisation", *words)
    assert {"set", "relative", "expected", "distance"} <= read("found.json")["sets"][0].keys()
    with Image.open("found.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize("package", ["diffusers", "denoising_diffusion_pytorch"])
def test_equal_time(bench, pictures, package):
    if missing := importlib.import_module("peers").missing(package):
        pytest.skip(f"not installed: {missing}")
    words = ("--source", pictures, "--seconds", 0.1, "--n", 3, "--steps", 2, "--out", "peers/peer.npz")
    found = json.loads(bench("equal_time", package, *words))
    assert found["steps"] > 0
    assert finite(found)
    assert np.load("peers/peer.npz")["x"].shape == (3, 1, 28, 28)


@pytest.mark.full
def test_evaluation(bench, pictures):
    found = json.loads(bench("evaluation", "--source", pictures, "--n", 40, "--features", "classifier"))
    assert found["n"] == 40
    assert min(found["first"], found["seconds"], found["peak_mib"]) > 0


OURS = ("ancestral", "ancestral-conv", "same-nets")


@pytest.mark.long
@pytest.mark.parametrize("names", [OURS, pytest.param(("pythae-vae", "pythae-beta-vae"), marks=absent("pythae"))])
def test_vae(bench, pictures, names):
    words = ("--source", pictures, "--seconds", 0.2, "--test", 6, "--n", 3, "--out", "vae")
    printed = bench("vae", *words, "--only", *names)
    found = read("vae/vae.json")["results"]
    assert tuple(found) == names
    assert finite(found)
    for name in names:
        assert f"{name} " in printed
        assert found[name]["images"] > 0
        assert -5000 < found[name]["elbo"] <= found[name]["iwae100"] + 1 < 1
        for stem in (name, f"{name}-standard"):
            assert np.load(f"vae/{stem}.npz")["x"].shape == (3, 1, 28, 28)


@pytest.mark.full
def test_gan(bench, pictures):
    """Each subject of two seeds, and the table of all."""
    words = ("--source", pictures, "--n", 40, "--out", "gan")
    for name in ("ancestral", "dcgan", "same-nets"):
        for seed in (0, 1) if name == "dcgan" else (0,):
            ours = ("train.batch=16",) if name == "ancestral" else ()
            said = json.loads(bench("gan", name, *ours, "--seconds", 0.1, "--seed", seed, *words))
            assert said == read(f"gan/{name}-{seed}.json")
            assert said["images"] > 0
            assert np.load(f"gan/{name}-{seed}.npz")["x"].shape == (40, 1, 28, 28)
    table = bench("gan", "evaluate", *words, "--features", "classifier", "random")
    assert "nan" not in table
    for row in ("ancestral, seed 0", "dcgan, seed 0", "dcgan, seed 1", "**dcgan**", "same-nets, seed 0", "real data"):
        assert f"| {row} |" in table


@pytest.mark.long
def test_modes(bench):
    words = ("--for", "3it", "--seeds", 1, "--n", 50, "--out", "modes")
    printed = bench("modes", *words)
    found = read("modes/modes.json")
    assert len(found) == 4 == printed.count("gaussians |") + printed.count("rings |")
    assert finite(found)
    assert {(row["data"], row["of"]) for row in found} == {("gaussians", 8), ("rings", 32)}
    assert all(row["turns"] == 3 for row in found)


@pytest.mark.long
def test_quality(bench, trained, pictures):
    run = trained(pictures, *SMALL, condition="class")
    found = json.loads(bench("quality", run, "--source", pictures, "--n", 12, "--epochs", 1, "--steps", 2, "--guidance", 2))
    assert found["fd"] > 0
    assert found.keys() >= {"fd", "floor", "agreement", "accuracy_on_real", "sampling", "solver", "steps"}
    assert finite(found)


@pytest.mark.long
def test_search(bench, pictures):
    words = ("--source", pictures, "--n", 12, "--epochs", 1, "--steps", 2, "--seconds", 0.1, "--out", "found/search.json")
    bench("search", *words, "--only", "batch 32")
    found = read("found/search.json")
    assert [row["variant"] for row in found] == ["batch 32"]
    assert finite(found)


def test_sanity(bench):
    """A check of scores and distances with two settings, and those of copies, whose verdicts hold for few samples too."""
    names = ("Sphere vs. Torus", "Copies of the training set (ours)", "Repeated samples (ours)")
    printed = bench("sanity", "--n", 80, "--repeats", 1, "--only", *names, "--json", "sanity.json")
    found = read("sanity.json")
    assert finite(found)
    assert found["results"]["Copies of the training set (ours)"] == {"D1b": {"copy-rate": "P", "c_t": "P"}}
    duplicates = found["curves"]["Repeated samples (ours)"][""]["duplicates"]
    assert duplicates[0] < 0.3 < duplicates[-1] == 1
    assert found["results"]["Sphere vs. Torus"]["D4"].keys() >= {"precision", "clipped-density", "clipped-coverage", "vendi"}
    assert found["curves"]["Sphere vs. Torus"].keys() == {"real sphere", "real torus"}
    for kind in ("fidelity", "diversity", "distance", "copies"):
        assert f"## {kind}" in printed


def test_sanity_criteria():
    """The shapes of the paper's criteria, on curves that have them and on curves that do not."""
    named = runpy.run_path(str(FOLDER / "sanity.py"))
    x = np.linspace(-1, 1, 5)
    curves = {"bell": (0, 0.5, 1, 0.5, 0), "falls": (1, 0.9, 0.5, 0.2, 0), "flat": (0.97, 1, 0.98, 1, 0.96)}
    shapes = {"bell": named["bell"](0), "falls": named["falls"], "flat": named["flat"]}
    for shape, criterion in shapes.items():
        assert [name for name, y in curves.items() if criterion(x, np.array(y))] == [shape]
    assert named["rises"](x, np.arange(5) / 4)
    assert named["settles"](x, np.array([0.5, 0.2, 0, 0.01, 0.02]))
    assert not named["settles"](x, np.array([0, 0, 0, 0.1, 0.2]))
    valley = named["valley"](0)
    assert valley(x, np.array([1e-3, 4e-4, 0, 30, 100]))  # each side by its own largest value
    assert not valley(x, np.array([0, 0, 0, 30, 100]))
    assert not valley(x, np.array([3, 4, 3, 4, 3]))
    either = named["low_or_high"](shapes["bell"], named["rises"])
    assert [either(x, np.array(y)) for y in (curves["bell"], np.arange(5) / 4, curves["flat"])] == ["L", "H", False]
    assert [named["mark"](found) for found in ([True, "L"], [True, True], ["L", "H"], [True, False])] == ["L", "P", "F", "F"]


def test_every_metric_of_features_has_a_class():
    """Those of one image or of the model need no class; a new metric of features does."""
    classes = {name for names in runpy.run_path(str(FOLDER / "sanity.py"))["CLASSES"].values() for name in names}
    entries = [ancestral.registry.entry("metric", name) for name in ancestral.registry.names("metric")]
    wanted = {e.name for e in entries if e.value.__module__.startswith("ancestral.metrics") and e.name != "rfd"}
    assert wanted == classes


@pytest.mark.long
def test_tuning(bench, trained, tmp_path):
    run = shutil.copytree(trained("gaussians", "model.width=16", "train.previews=0"), tmp_path / "run")
    ancestral.tune(run, (3,), n=4)
    printed = bench("tuning", run, "--n", 8, "--steps", 3, 7)
    before, tuned = (float(cell) for cell in re.search(r"\| 3 \| (.*?) \| (.*?) \|", printed).groups())
    assert 0 < before < math.inf
    assert 0 < tuned < math.inf
    assert re.search(r"\| 7 \| [0-9.]+ \|  \|  \|", printed)


@pytest.mark.long
def test_record(bench):
    """Every family and baseline has a row and a line of the table; what was measured is read again and not repeated."""
    words = ("--sets", "digits", "--minutes", 0.01, "--seeds", 1, "--n", 40, "--machine", "this one", "--out", "record.jsonl")
    printed = bench("record", *words)
    rows = [json.loads(line) for line in Path("record.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["subject"] for row in rows if not row["baseline"]} == {"diffusion", "score", "vae", "gan", "latent"}
    assert {row["subject"] for row in rows if row["baseline"]} == {"copy", "gaussian", "kernel", "mixture"}
    assert finite([row["metrics"] for row in rows])
    for row in rows:
        assert row["metrics"]["fd-efficientnet"][0] > 0
        assert bool(row["cost"]) != row["baseline"]
    assert bench("record", *words) in printed
    table = bench("record", "--table", "--out", "record.jsonl")
    assert "**digits, 0.01 minutes of this one, 1 training, 40 samples" in table
    for row in rows:
        value = row["metrics"]["copy-rate"][0]
        assert re.search(rf"^\| \*+{row['subject']}\*+ \|.*\| {value:.1%} \|", table, re.M), table


@absent("diffusers")
@pytest.mark.full
def test_tuned_peer(bench):
    """Both networks in our loop; what was measured is read again and not repeated."""
    words = ("--source", "digits", "--seconds", 1, "--seeds", 1, "--n", 25, "--out", "peer.jsonl")
    printed = bench("tuned_peer", *words)
    rows = [json.loads(line) for line in Path("peer.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["network"] for row in rows] == ["ours", "diffusers"]
    assert all(0 < row["fd-classifier"][0] < math.inf and row["images"] > 0 for row in rows)
    assert rows[1]["lr"] == 2e-3
    assert bench("tuned_peer", *words) == printed


@absent("diffusers")
@pytest.mark.full
def test_solvers(bench, trained, pictures):
    """Every solver of the registry beside the schedulers; one of each by the classifier."""
    bench("solvers", trained("gaussians", "model.width=16", "train.previews=0"), "--n", 8, "--nfe", 10, "--out", "points")
    found = read("points.json")
    assert {"ddim", "heun", "adaptive", "churn", "diffusers DDIM", "diffusers HeunDiscrete"} <= found["curves"].keys()
    assert found["distance"].startswith("sliced")
    assert finite(found)
    run = trained(pictures, *SMALL, condition="class")
    bench(
        "solvers", run, "--n", 8, "--nfe", 4, "--solvers", "heun", "--distance", "classifier", "--epochs", 1, "--out", "drawn"
    )
    found = read("drawn.json")
    assert found["distance"].startswith("Fréchet")
    assert finite(found)
    assert Path("points.png").stat().st_size > 1000 < Path("drawn.png").stat().st_size


def test_editing(bench, trained):
    printed = bench("editing", trained("digits", *SMALL), "--n", 12, "--steps", 3, "--picture", "editing.png")
    rows = ("the digits themselves", "half, RePaint", "half, moment matching", "4x4 enlarged", "varied, strength 0.7")
    assert all(f"\n{row}" in printed for row in rows)
    assert printed.count("%") == 10
    assert "nan" not in printed
    assert Path("editing.png").exists()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["layout", "text"])
def test_control_of_scenes(bench, kind):
    sizes = ("--scenes", 150, 150, "--reader", 128, "--n", 8, "--steps", 2, "--guidance", 0, 2)
    bench("control", kind, "--for", "1it", *sizes, "--out", "out", *SMALL)
    found = read(f"out/control-{kind}.json")
    assert finite(found)
    rows = {"real data", "real data, of another condition", "samples, guidance 0", "samples, guidance 2"}
    for prompts in ("seen combinations", "held-out combinations"):
        assert found[prompts].keys() == rows
        assert all(row["all"]["n"] == 8 for row in found[prompts].values())
        assert Path(f"out/{kind}-{prompts}-2.png").exists()


def test_control_of_classes(bench, pictures, trained):
    """With distances, which need held-out pictures beside those that are asked for; of a run that is there."""
    words = ("--source", pictures, "--n", 8, "--steps", 2, "--guidance", 1, "--out", "out")
    bench("control", "class", *words, "--run", trained(pictures, *SMALL, condition="class"))
    found = read("out/control-class.json")
    assert finite(found)
    assert all("distance" in row for row in found["classes"].values())
    assert found["classes"].keys() == {"real data", "real data, of another condition", "samples, guidance 1"}


@pytest.mark.long
def test_control_of_emoji(bench, packages):
    folder = emoji(bench, packages, "--combinations")
    bench(
        "control", "emoji", "--source", folder, "--for", "1it", "--n", 6, "--steps", 2, "--guidance", 1, "--out", "out", *SMALL
    )
    found = read("out/control-emoji.json")
    assert finite(found)
    toned = found["held-out combinations with a skin tone"]["samples, guidance 1"]
    assert toned.keys() >= {"category", "style", "skin tone"}


@pytest.mark.parametrize("kind", ["upscale", pytest.param("inpaint", marks=pytest.mark.long)])
def test_restore(bench, trained, pictures, kind):
    plain = trained(pictures, *SMALL, condition="class")
    words = ("--for", "1it", "--n", 4, "--steps", 2, "--guidance", 1, 2, "--plain", plain, "--out", "out")
    bench("restore", kind, pictures, "--features", "classifier", *words, *SMALL)
    found = read(f"out/{kind}-pictures.json")["rows"]
    assert {"another real picture", "without learning", "guidance 2, mean of 4", "not trained for it"} <= found.keys()
    assert finite(found)
    assert Path(f"out/{kind}-pictures.png").exists()


def test_emoji_of_both_styles(bench, packages):
    folder = emoji(bench, packages, "--both")
    rows = [json.loads(line) for line in (folder / "train" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["text"].split()[0] for row in rows} == {"twitter", "google"}
    assert all((folder / "train" / row["file_name"]).exists() for row in rows)


@pytest.mark.long
def test_restore_of_emoji(bench, packages):
    folder = emoji(bench, packages, "--style", "google")
    words = ("--features", "coordinates", "--size", 8, "--for", "1it", "--n", 4, "--steps", 2, "--out", "out")
    bench("restore", "image", folder, *words, *SMALL)
    found = read("out/image-emoji.json")["rows"]
    assert found.keys() == {"another real picture", "without learning", "guidance 1", "guidance 1, mean of 4"}
    assert finite(found)


@pytest.mark.full
def test_latent(bench, pictures):
    """Both trainings, their evaluation with guidance, and the networks."""
    for name, own in (("pixels", SMALL), ("latents", ("train.batch=16", "train.previews=0"))):
        bench("latent", "train", name, pictures, *own, "--size", 16, "--condition", "class", "--for", "2it", "--out", "out")
        found = read(f"out/{name}.json")
        assert found["images"] > 0
        assert len(found["stages"]) == (1 if name == "pixels" else 2)
    table = bench("latent", "evaluate", "-n", 20, "--features", "classifier", "--turns", 1, "--out", "out")
    assert {"pixels", "latents"} == read("out/evaluated.json").keys()
    for row in ("training time, s", "Fréchet distance, fd-classifier", "samples/s", "16 samples of 20 steps, s"):
        assert f"| {row} |" in table
    table = bench("latent", "networks", "--batch", 2, "--turns", 1, "--out", "out")
    for row in ("pixels", "latents, f=8", "latents, f=4, a transformer", "autoencoder, f=4", "latents, f=4, patches of 2"):
        assert f"| {row} |" in table
    assert "nan" not in table


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.full), pytest.param("cuda", marks=pytest.mark.gpu)])
def test_gpu(bench, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        np.save(f"{name}.npy", rng.integers(0, 256, (400, 8, 8, 3), dtype=np.uint8))
    bench("gpu", "--pack", "packed", "--scenes", "one.npy", "--emoji", "two.npy")
    words = ("--quick", "--seconds", 0.01, "--sizes", 28, "--loops", 0, 1, 2, "--train", 2, "--data", "packed")
    printed = bench("gpu", *words, "--device", device, "--json", "gpu.json", "--markdown", "gpu.md")
    found = read("gpu.json")
    loops = ["ancestral", *(["diffusers"] if find_spec("diffusers") else []), "EDM-style"]
    assert [row["loop"] for row in found["rows"]] == loops
    assert all(row["images_per_second"] > 0 and row["sampled_per_second"] > 0 for row in found["rows"])
    assert sum(found["rows"][0]["shares"].values()) == pytest.approx(1)
    assert [run["data"] for run in found["quality"]] == ["scenes64", "emoji"]
    assert all(run["steps"] > 0 and run["fd"] > run["fd_of_real_data"] for run in found["quality"])
    assert Path("gpu.md").read_text(encoding="utf-8") in printed


@pytest.mark.full
def test_verdicts(bench):
    words = ("--size", 8, "--n", 24, "--held-out", 60, "--many", 60, "--seen", 300, "--splits", 2, "--repeats", 1)
    words = (*words, "--ways", "noise", "--families", 1, "--spreads", 1, "--seeds", 2, "--json", "verdicts.json")
    printed = bench("verdicts", "--source", "digits", *words)
    found = read("verdicts.json")
    of_worlds = [found[world]["verdicts"] for world in ("mixture", "pictures")]
    for case, count in found["both"].items():
        for key in ("comparisons", "wrong", "decided"):
            assert count[key] == sum(verdicts[case][key] for verdicts in of_worlds if case in verdicts)
        assert 0 <= count["wrong"] <= count["comparisons"]
    assert {"equal", "unlike"} <= set(found["both"])
    assert found["mixture"]["unit"] > 0
    assert {count["comparisons"] for rows in found["families"].values() for count in rows.values()} == {1}
    assert "| one training | 1 |" in printed


@pytest.mark.full
def test_versions(bench):
    """This state beside itself; the script is started by name, since each process of its own runs it again."""
    root = FOLDER.parent
    words = [sys.executable, str(FOLDER / "versions.py"), root, root, "--only", "toys", "--turns", 2, "--seconds", 0.05]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=200, check=True)
    row = done.stdout.splitlines()[-1].split("|")
    assert row[1].strip() == "toys"
    assert all(float(value) > 0 for value in row[2:5])


@pytest.mark.full
def test_serve(bench):
    run = FOLDER.parent / "tests" / "fixtures" / "format1" / "latent"
    short = ("--seconds", 0.5, "--rounds", 1, "--clients", 2, "--bad", 2, "--minutes", 0.03)
    bench("serve", "--run", run, *short, "--only", "load", "overload", "bad", "memory", "--json", "serve.json")
    found = read("serve.json")
    (row,) = found["load"]
    assert (row["clients"], row["alone: samples a batch"], row["batched: wrong"], row["batched: lost"]) == (2, 1, 0, 0)
    assert row["batched: samples per second"] > 1
    assert (found["overload"]["asked"], found["overload"]["wrong"]) == (found["overload"]["answered"], 0)
    assert (found["bad"]["killed"]["cancelled"], found["bad"]["slow"]["closed"]) == (2, 6)
    assert set(found["bad"]["malicious"]["answers"]) <= {"400", "403", "408", "413", "431", "closed"}
    assert set(found["bad"]["honest"]["answers"]) == {"200"}
    assert found["bad"]["connections left"] == 0
    assert (found["memory"]["wrong"], set(found["memory"]["answers"])) == (0, {"200"})


@pytest.mark.long
def test_torture(bench):
    printed = bench("torture", "damage", "--families", "vae", "--commands", "info,sample,report", "--each", 1)
    total = next(line for line in printed.splitlines() if line.startswith("| all |"))
    tried, same, named, *_, bad = (int(cell) for cell in total.split("|")[2:-1])
    assert bad == 0
    assert min(same, named) > tried / 10
    torture = importlib.import_module("torture")
    traceback, silent, loud = torture.End(1, "", "KeyError"), torture.End(0, ""), torture.End(0, "a.json is damaged")
    outcomes = [torture.judge("a.json", end, result, 1, left_out=free) for end, result, free in (
        (traceback, None, True), (silent, 2, True), (loud, 2, False), (torture.End(1, "error: no"), None, True),
        (loud, 2, True), (loud, 1, False), (silent, 1, False), (torture.End(1, "error: a.json is damaged"), None, False),
    )]  # fmt: skip
    assert outcomes == ["BAD"] * 4 + ["left out", "rebuilt", "same", "named"]


def apart(tmp_path, program, *words):
    """Run a benchmark in a process of its own, since it forks, and threads of other tests would not be in the child."""
    line = [sys.executable, str(FOLDER / f"{program}.py"), *words]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def mounts():
    """Whether a process may mount a file system in a namespace of its own."""
    program = ["unshare", "--map-root-user", "--mount", "true"]
    return shutil.which("unshare") and not subprocess.run(program, capture_output=True, check=False).returncode


@pytest.mark.long
@pytest.mark.parametrize(
    "part", [pytest.param("disk", marks=pytest.mark.skipif(not mounts(), reason="nothing can be mounted")), "quota", "clock"]
)
def test_a_command_that_is_short_of_something(tmp_path, part):
    printed = apart(tmp_path, "torture", part, "--commands", "vae", "--most", "2", "--seed", "1")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| vae")]
    assert {row[1] for row in rows} == ({"pages", "files", "calls"} if part == "disk" else {part})
    for tries, sentence, same, _, bad in (map(int, row[2:]) for row in rows):
        assert (tries, bad) == (2, 0)
        assert (same if part == "clock" else sentence) == 2


def test_files_that_are_not_whole_are_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    shortage = importlib.import_module("shortage")
    ancestral.train("moons", budget="1it", out=tmp_path / "run", quiet=True, device="cpu", settings=("train.previews=0",))
    (tmp_path / "drawn.npz").write_bytes(b"")
    (tmp_path / "report.html").write_text("<html>")
    weights = tmp_path / "run" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    (tmp_path / ".drawn.npz.17.tmp").write_bytes(b"")
    assert [line.partition(" ")[0] for line in shortage.torn(tmp_path)] == [
        "drawn.npz",
        "report.html",
        "run/model/model.safetensors",
    ]
    assert shortage.leftovers(tmp_path) == [".drawn.npz.17.tmp is left"]
    sys.modules.pop("shortage")


@absent("atheris")
@pytest.mark.long
def test_guided(tmp_path):
    printed = apart(tmp_path, "fuzz", "--engine", "atheris", "--seconds", "5", "--only", "npy")
    tried, *_, bad, _ = (cell.strip() for cell in printed.splitlines()[-1].split("|")[2:-1])
    assert int(tried.replace(",", "")) > 20
    assert bad == "0"


@pytest.mark.long
def test_fuzz(tmp_path):
    printed = apart(tmp_path, "fuzz", "--n", "2", "--json", "fuzz.json")
    rows = read(tmp_path / "fuzz.json")
    assert len(rows) == 12
    assert all(row["inputs"] == row["read"] + row["sentence"] == 2 for row in rows)
    assert "| all | 24 |" in printed


@pytest.mark.full
@pytest.mark.long
def test_export(bench):
    settings = ("train.previews=0", "model.latent=4", "model.net=mlp", "model.width=16")
    ancestral.train("digits", "vae", "2it", "run", condition="class", settings=settings, device="cpu", quiet=True)
    printed = bench("export", "run", "--n", 4, "--trials", 1, "--json", "out.json")
    (row,) = read("out.json")["runs"]
    assert row["milliseconds"].keys() == {"torch", "pt2", "onnx", "onnx int8", "openvino", "openvino bf16", "openvino int8"}
    assert row["agreement"]["onnx"]["rms"] < row["agreement"]["onnx int8"]["rms"]
    assert row["agreement"]["openvino int8"]["samples"] == 513
    assert all(gain > 0.5 for gain in read("out.json")["product"].values())
    assert "run: milliseconds torch" in printed


def test_distill(bench):
    ancestral.train("digits", budget="4it", out="run", condition="class", settings=SMALL, device="cpu", quiet=True)
    ancestral.distill("run", 2, "2it", device="cpu", quiet=True, settings=("train.previews=0",))
    printed = bench("distill", "run", "run-2steps", "--steps", 2, "--n", 40, "--features", "random", "--json", "out.json")
    assert [row["name"] for row in read("out.json")] == ["real data", "teacher, 2 steps", "distilled, run-2steps"]
    assert all(row["distance"] > 0 for row in read("out.json"))
    assert "| distilled, run-2steps |" in printed
