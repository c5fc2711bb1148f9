"""The tutorials run, in a quick form, and show what their pages say that they show."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ("model.width=16", "train.batch=16", "train.diagnoses=4", "train.previews=1")


@pytest.fixture
def example(tmp_path, monkeypatch):
    """A function that loads the example of a name; it runs in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.long
def test_own_folder(example, capsys):
    example("own_folder").main(budget="4it", settings=("model.channels=[8, 16]", "model.blocks=1", "train.previews=1"))
    assert "classes ('one', 'seven', 'zero')" in capsys.readouterr().out
    assert {path.name for path in Path("runs/photos").glob("*.png")} == {"one.png", "seven.png", "zero.png", "any.png"}


@pytest.mark.full
def test_choose_family(example, capsys):
    """All families are compared on points in the plane, except latent diffusion, which cannot model them."""
    comparison = example("choose_family").main(budget="20it", n=200, settings=("model.width=16", "train.previews=1"))
    models = {"diffusion", "score", "vae", "gan"}
    assert {c.name for c in comparison.subjects} == models | {"gaussian", "mixture", "kernel", "copy"}
    assert next(c for c in comparison.subjects if c.name == "copy").copies
    assert comparison.rule in capsys.readouterr().out


@pytest.mark.long
def test_collapse_is_counted(example):
    import torch

    from ancestral.app.data.toys import gaussian_mixture

    module = example("collapse")
    means = gaussian_mixture().means.float()
    assert module.modes(means.repeat(50, 1)) == (8, 1.0)
    assert module.modes(torch.cat([means[:2].repeat(50, 1), torch.zeros(100, 2)])) == (2, 0.5)
    assert set(module.main(budget="30it", settings=SMALL)) == {"plain", "penalised"}


@pytest.mark.long
def test_likelihoods(example, capsys):
    found = example("likelihoods").main(budget="20it", n=8, settings=SMALL)
    assert "gan" not in found
    assert "gan: no likelihood" in capsys.readouterr().out
    assert all(1 < found[family] < 40 for family in ("vae", "diffusion"))  # log2(17) = 4.09 knows nothing
    assert found["error"] < 1e-3


@pytest.mark.long
def test_few_steps(example):
    """More steps, a smaller error, for every solver; and second order beats first at the same evaluations."""
    errors = example("few_steps").main(budget="150it", n=200)
    for solver in ("ddim", "dpmpp", "dpmpp-3", "heun", "unipc"):
        assert errors[solver, 32] < errors[solver, 16] < errors[solver, 4]
    assert errors["dpmpp", 32] < errors["ddim", 32]


@pytest.mark.full
def test_control(example, capsys):
    """The classifier reads real scenes, fails on those of other boxes, and is asked at every scale of guidance."""
    settings = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16", "train.previews=1")
    found = example("control").main(budget="4it", n=40, settings=settings)
    assert found["real"] > 0.9
    assert found["chance"] < 0.3
    assert {"guidance 1", "guidance 2", "guidance 3"} <= set(found)
    assert {path.name for path in Path("runs/control").glob("*.png")} == {"class.png", "text.png", "layout.png"}
    assert "left of" in capsys.readouterr().out


@pytest.mark.long
def test_own_network(example):
    """The example has at most 15 lines without imports. Its samples are two moons: few are further from data than data are."""
    import ast

    import numpy as np
    import torch
    from scipy.spatial import cKDTree

    from ancestral.app.data import load

    module = example("own_network")
    tree = ast.parse((EXAMPLES / "own_network.py").read_text())
    skipped = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) or node is tree.body[0]]
    lines = {line for node in ast.walk(tree) if hasattr(node, "lineno") for line in range(node.lineno, node.end_lineno + 1)}
    text = (EXAMPLES / "own_network.py").read_text().splitlines()
    code = [n for n in lines if text[n - 1].strip() and not any(s.lineno <= n <= s.end_lineno for s in skipped)]
    assert len(code) <= 15
    x = load("moons").batch(torch.arange(8000)).x.numpy()
    tree = cKDTree(x[:4000])
    real, drawn = (tree.query(points, k=5)[0][:, -1] for points in (x[4000:], module.samples.numpy()))
    assert (drawn > np.quantile(real, 0.99)).mean() < 0.12  # a model that fills the gap between the moons has 0.2
    assert drawn.mean() < 2 * real.mean()
    reached = cKDTree(module.samples.numpy()).query(x[4000:])[0]
    assert np.quantile(reached, 0.99) < 0.3  # no part of a moon, of length 3, is left out


@pytest.mark.long
def test_any_denoiser(example):
    """The wrapped network is asked at the time step that the other library means."""
    import torch

    module = example("any_denoiser")
    model, x = module.main(steps=3)
    assert x.shape == (16, 1, 8, 8)
    assert ((x >= 0) & (x <= 1)).all()
    x_t = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        for i in (10, 499, 900):
            ours, theirs = model.denoise(x_t, (i + 1) / 1000).eps, model.denoiser.network.network.network.unet(x_t, i).sample
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    comparison = module.compared(model, n=100)  # after three steps the samples are noise, and nothing else is found
    assert comparison.better("gaussian", "diffusers")


@pytest.mark.long
def test_own_loader(example):
    """A loader, a network, an optimiser and a schedule of one's own: the loss falls, and the saved run draws the same."""
    import torch

    module = example("own_loader")
    assert len(module.losses) == 200
    assert sum(module.losses[-20:]) < 0.95 * sum(module.losses[:20])
    seeds = range(4)
    torch.testing.assert_close(module.again.sample(4, seeds=seeds), module.model.sample(4, seeds=seeds), atol=1e-4, rtol=0)


@pytest.mark.long
def test_swings(example):
    """The file has signals of two named channels, and speed is the slope of position."""
    import numpy as np

    from ancestral.app.data import load

    module = example("swings")
    spec = load("data/swings.npz").spec
    assert (spec.shape, spec.channels) == ((2, 64), ("position, mm", "speed, mm/s"))
    slope = np.gradient(module.position, module.t, axis=1)
    assert abs(module.speed - slope)[:, 1:-1].max() < 0.05 * abs(module.speed).max()  # the slope has an error of 4 %


def test_flowers_and_shards(example):
    """The folder and the shards hold the same flowers, kinds and captions, and no flower is a blue lily."""
    from collections import Counter

    from ancestral.app.data import load

    example("garden")
    example("shards")
    folder, shards = load("garden"), load("data/garden-*.tar")
    for data in (folder, shards):
        assert (data.spec.shape, data.spec.classes) == ((3, 24, 24), ("aster", "lily", "primrose"))
        assert len(data.train) + len(data.test) == 2400
    captions = [Counter(data.column("text", "train")) + Counter(data.column("text", "test")) for data in (folder, shards)]
    assert captions[0] == captions[1]
    assert len(captions[0]) == 17
    assert "a blue lily" not in captions[0]
    corner = folder.x("train")[:, :, 0, 0]
    assert (corner[:, 1] > corner[:, [0, 2]].max(1).values).all(), "the ground is green"


def test_weather(example):
    """Days of summer are brighter, longer and warmer than those of winter, and it is warmest in the afternoon."""
    from ancestral.app.data import load

    module = example("weather")
    spec = load("data/weather.npz").spec
    assert (spec.shape, spec.channels) == ((2, 48), ("temperature, °C", "sunlight, W/m²"))
    summer, winter = (abs(module.day - noon) < 20 for noon in (172, 356))
    temperature, sunlight = module.x[:, 0], module.x[:, 1]
    assert sunlight[summer].max() < 1000
    assert (sunlight[summer] > 0).sum(1).mean() / 2 == pytest.approx(16.2, abs=0.5)  # hours of a day at 50 degrees north
    assert (sunlight[winter] > 0).sum(1).mean() / 2 == pytest.approx(7.9, abs=0.5)
    assert temperature[summer].mean() - temperature[winter].mean() > 10
    assert 13 < module.hour[temperature[summer].mean(0).argmax()] < 18


def test_patients(example):
    """The columns are those of the table of scikit-learn, and the reader knows which hold whole numbers."""
    from ancestral.app.data import load

    example("patients")
    data = load("data/patients.csv")
    assert data.spec.channels == ("age", "sex", "bmi", "pressure", "glucose", "progress")
    assert len(data.train) + len(data.test) == 442
    assert any("sex (1 or 2)" in note for note in data.notes)
