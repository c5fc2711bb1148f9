"""Training and evaluation of data that are read on demand."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.data import load
from ancestral.app.evaluate import data_of
from ancestral.app.evaluation import Evaluator
from ancestral.app.evaluation.baselines import baseline
from ancestral.app.training.run import Run
from ancestral.weights import checksum

SMALL = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=16", "train.previews=0", "data.flip=true")


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """The pattern of three shards of 50 images of two kinds, with captions."""
    monkeypatch.setenv("ANCESTRAL_CACHE", str(tmp_path / "cache"))
    for s in range(3):
        (tmp_path / "data").mkdir(exist_ok=True)
        with tarfile.open(tmp_path / "data" / f"part-{s}.tar", "w") as file:
            for i in range(s * 50, s * 50 + 50):
                noise = np.random.RandomState(i).randint(40, size=(8, 8))
                picture = io.BytesIO()
                Image.fromarray((noise + 120 * (i % 2)).astype(np.uint8)).save(picture, "PNG")
                for name, content in ((f"{i}.png", picture.getvalue()), (f"{i}.txt", ["dark", "light"][i % 2].encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    file.addfile(info, io.BytesIO(content))
    return str(tmp_path / "data" / "part-*.tar")


def test_a_run_on_shards_continues_exactly(tmp_path, shards):
    def trainer(name, *settings):
        return plan(
            shards, budget="14it", out=tmp_path / name, condition="text", device="cpu", settings=(*SMALL, *settings)
        ).begin()

    whole = trainer("whole")
    list(whole)
    for cut in (4, 9):  # the ninth step lies in the second epoch of 130 samples
        part = trainer("part")
        for step in part:
            if step.step == cut:
                part.save()
                break
    list(trainer("part"))
    weights = [checksum(dict(Run(tmp_path / name).load_model("cpu").state_dict())) for name in ("whole", "part")]
    assert weights[0] == weights[1]
    assert len(whole.data.train) == 130


def test_a_run_on_shards_is_found_again_with_its_data(tmp_path, shards, monkeypatch):
    an.train(shards, budget="2it", out=tmp_path / "run", settings=SMALL, quiet=True, device="cpu")
    monkeypatch.chdir(tmp_path / "data")
    assert data_of(Run(tmp_path / "run")).spec == Run(tmp_path / "run").spec
    (tmp_path / "moved").mkdir()
    (tmp_path / "run").rename(tmp_path / "moved" / "run")
    (tmp_path / "data").rename(tmp_path / "moved" / "data")
    assert len(data_of(Run(tmp_path / "moved" / "run")).train) == 130


def test_accumulation_changes_no_result_of_a_stream(tmp_path, shards):
    found = []
    for parts in (1, 4):
        settings = (*SMALL, f"train.accumulate={parts}", "train.precision=fp32")
        trainer = plan(shards, budget="3it", out=tmp_path / str(parts), settings=settings, device="cpu").begin()
        list(trainer)
        found.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.allclose(*found, atol=1e-6)


def test_an_evaluation_says_which_samples_stand_for_a_stream(shards, monkeypatch):
    data = load(shards)
    assert Evaluator(data, against="train", n=20, extractors=["random"]).notes == ()  # all are used
    monkeypatch.setattr("ancestral.app.data.dataset.KEPT", 60)
    data = load(shards)
    monkeypatch.setattr(type(data.train["x"]), "values", property(lambda _: pytest.fail("the whole stream is read")))
    evaluator = Evaluator(data, against="train", n=25, extractors=["random"])
    assert evaluator.notes == ("60 of 130 training samples, evenly spread, stand for all in comparisons",)
    assert len(evaluator.reference.train) == 60
    copies = baseline("copy", evaluator.data, 25)
    train = data.batch(torch.arange(130)).x
    assert all((train == x).flatten(1).all(1).any() for x in copies.x)
