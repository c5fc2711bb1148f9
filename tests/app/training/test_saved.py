"""The folder of a saved model where commands and Python take a run."""

import numpy as np
import pytest
import torch
from torch import nn

import ancestral as an
from ancestral.app.cli import main
from ancestral.app.training.saved import SavedModel, opened

SMALL = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16", "train.previews=0")


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, z, logsnr):
        return self.layer(z)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run of three steps, and its model saved elsewhere."""
    place = tmp_path_factory.mktemp("saved")
    an.train("digits", condition="class", budget="3it", out=place / "run", settings=SMALL, quiet=True)
    an.load(place / "run").save(place / "model")
    return place / "run", place / "model"


def command(*words):
    with pytest.raises(SystemExit) as done:
        main([str(word) for word in words])
    return done.value.code


def test_what_the_model_knows_of_its_data(folders):
    run, model = map(opened, folders)
    for field in ("shape", "kind", "levels", "range"):
        assert getattr(model.spec, field) == getattr(run.spec, field), field
    torch.testing.assert_close(torch.tensor(model.spec.mean), torch.tensor(run.spec.mean))


def test_the_command_draws_what_the_run_draws(folders, tmp_path):
    for folder in folders:
        out = tmp_path / f"{folder.name}.npz"
        assert command("sample", folder, "-n", 3, "--class", 7, "--steps", 3, "--precision", "fp32", "--out", out, "-q") == 0
    with np.load(tmp_path / "run.npz") as a, np.load(tmp_path / "model.npz") as b:
        assert a["x"].dtype == b["x"].dtype == np.uint8
        assert (a["x"] == b["x"]).all()
    assert command("sample", folders[1], "-n", 3, "--steps", 2, "-q") == 0
    assert (folders[1] / "samples.png").is_file()


def test_it_is_evaluated_against_data(folders, capsys):
    how = {"n": 60, "extractors": ["random"], "how": {"steps": 2}}
    of_file = an.evaluate(folders[1], against="digits", **how)
    of_object = an.evaluate(an.load(folders[1]), against="digits", **how)
    assert of_file.headline.value == of_object.headline.value
    assert of_file.evaluation.family == "diffusion"
    assert {"fd-random", "bits-vlb"} <= set(of_file)
    assert of_file.evaluation.cost["parameters"] > 1000
    with pytest.raises(KeyError, match=r"no metric 'fid' in this evaluation; it has .*fd-random"):
        of_file["fid"]
    assert command("evaluate", folders[1], "-q") == 2
    assert "--against SOURCE" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(an.UsageError, match="1x8x8, those of moons 2"):
        an.evaluate(folders[1], against="moons", n=60)


def test_what_a_saved_model_cannot_do(folders, tmp_path, capsys):
    saved = SavedModel(folders[1])
    with pytest.raises(an.UsageError, match="no checkpoint of step 3"):
        saved.load_model(step=3)
    assert command("sample", folders[1], "--latent-map", "-q") == 2
    assert "give the run" in capsys.readouterr().err
    with pytest.raises(an.UsageError, match="holds no run"):
        opened(tmp_path)


def test_a_network_of_your_own_is_named(tmp_path, capsys):
    an.Diffusion(Own(), shape=(2,)).save(tmp_path / "own")
    assert command("sample", tmp_path / "own") == 2
    assert "network=Own(...)" in capsys.readouterr().err.replace("\n", "")
    assert an.load(tmp_path / "own", network=Own()).sample(2, steps=2).shape == (2, 2)
