"""Data sets of Hugging Face: columns are found by their features, and rows are read from Arrow when a batch needs them."""

import io
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from ancestral.app.api import train
from ancestral.app.data import DataError, exists, is_name, load, name_of
from ancestral.app.data.streamed import Streamed
from ancestral.app.evaluate import data_of
from ancestral.app.training.run import Run


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()


def picture(i, mode="RGB"):
    return Image.fromarray(np.random.RandomState(i).randint(256, size=(8, 8, 3), dtype=np.uint8)).convert(mode)


def of_images(n=60, start=0, **columns):
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog"]),
        "caption": datasets.Value("string"),
    }
    rows = {
        "image": [picture(i) for i in range(start, start + n)],
        "label": [i % 2 for i in range(n)],
        "caption": [f"picture {i}" if i % 3 else None for i in range(n)],
    }
    kinds = {name: datasets.Value("float64") for name in columns}
    return datasets.Dataset.from_dict(rows | columns, datasets.Features(features | kinds))


def pixels(rows):
    return torch.from_numpy(np.stack([np.asarray(picture(i)).transpose(2, 0, 1) for i in rows])).float() / 255


def test_images_classes_captions_and_numbers():
    data = load(of_images(angle=[i / 4 for i in range(59)] + [None]))
    assert isinstance(data.train["x"], Streamed)
    assert (data.spec.shape, data.spec.levels, data.spec.classes) == ((3, 8, 8), 256, ("cat", "dog"))
    rows = data.train["x"].selection.rows(np.arange(54))
    assert torch.equal(data.batch(torch.arange(54)).x, pixels(rows))
    assert data.train.labels.tolist() == (rows % 2).tolist()
    assert data.train.captions == tuple(f"picture {i}" if i % 3 else None for i in rows.tolist())
    angles = data.train["number"].gather(torch.arange(54)).values[:, 0]
    assert torch.equal(angles.nan_to_num(-1), torch.tensor([i / 4 if i < 59 else -1 for i in rows.tolist()]))
    assert data.notes[0] == "60 rows of the data set of Hugging Face dataset"
    assert data.spec.numbers == ("angle",)
    assert torch.equal(data.order(0).at(0, 54).sort().values, torch.arange(54))
    assert load(of_images(), size=4).spec.shape == (3, 4, 4)


def test_splits_of_a_dict_and_of_a_folder(tmp_path):
    whole = datasets.DatasetDict(train=of_images(40), validation=of_images(10, 40), extra=of_images(3, 50))
    whole.save_to_disk(tmp_path / "set")
    one, other = load(whole), load(tmp_path / "set")
    assert (len(one.train), len(one.test)) == (40, 10)
    assert torch.equal(one.batch(torch.arange(10), "test").x, pixels(range(40, 50)))
    assert torch.equal(one.batch(torch.arange(40)).x, other.batch(torch.arange(40)).x)
    assert one.spec.fingerprint == other.spec.fingerprint
    assert other.spec.name == "set"
    assert "splits not used: extra" in one.notes
    assert "held out 10 samples: those of the split test or validation" in one.notes


@pytest.mark.parametrize("saved", [True, False])
def test_arrays_and_lists_of_numbers(tmp_path, saved):
    x = np.random.RandomState(0).normal(size=(50, 5)).astype(np.float32)
    table = datasets.Dataset.from_dict({"x": list(x), "class": [str(i % 3) for i in range(50)]})
    if saved:
        table.save_to_disk(tmp_path / "points")
    data = load(tmp_path / "points" if saved else table)
    rows = data.train["x"].selection.rows(np.arange(45))
    assert torch.equal(data.batch(torch.arange(45)).x, torch.from_numpy(x[rows]))
    assert data.spec.classes == ("0", "1", "2")
    assert data.train.labels.tolist() == (rows % 3).tolist()
    array = np.random.RandomState(0).randint(256, size=(30, 6, 7), dtype=np.uint8)
    grey = datasets.Dataset.from_dict({"a": list(array)}, datasets.Features({"a": datasets.Array2D((6, 7), "uint8")}))
    data = load(grey)
    assert (data.spec.shape, data.spec.levels) == ((1, 6, 7), 256)
    rows = data.train["x"].selection.rows(np.arange(27))
    assert torch.equal(data.batch(torch.arange(27)).x, torch.from_numpy(array[rows, None]).float() / 255)


def test_a_run_of_a_folder_is_trained_continued_and_found_again(tmp_path):
    of_images().save_to_disk(tmp_path / "set")
    small = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=4", "train.previews=0")
    for budget in ("2it", "4it"):
        train(tmp_path / "set", budget=budget, out=tmp_path / "run", condition="text", settings=small, quiet=True, device="cpu")
    assert data_of(Run(tmp_path / "run")).spec.name == "set"


def test_damaged_images_are_replaced_and_counted():
    good = [{"bytes": (file := io.BytesIO(), picture(i).save(file, "PNG"))[0].getvalue(), "path": None} for i in range(20)]
    good[4] = {"bytes": b"no", "path": None}
    table = datasets.Dataset.from_dict({"image": good}, datasets.Features({"image": datasets.Image()}))
    data = load(table)
    place = data.train["x"].selection.rows(np.arange(18)).tolist().index(4)
    assert torch.equal(data.batch(torch.tensor([place])).x, pixels([5]))
    assert any(
        "1 sample of the data set dataset cannot be read, and the next was taken: number 4" in note for note in data.notes
    )


def test_what_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"^a streamed data set of Hugging Face has no fixed order, .* without streaming=True$"):
        load(of_images().to_iterable_dataset())
    with pytest.raises(DataError, match=r"has no column of images or of arrays of numbers: found name \(Value\)$"):
        load(datasets.Dataset.from_dict({"name": ["a", "b"]}))
    with pytest.raises(DataError, match=r"^the data set has the splits a, and none is called train: give one of them$"):
        load(datasets.DatasetDict(a=of_images(3)))
    uneven = datasets.Dataset.from_dict({"x": [[1.0], [1.0, 2.0], [3.0]]})
    with pytest.raises(DataError, match=r"^the arrays of the column x differ in shape: make them equal$"):
        load(uneven)
    of_images().save_to_disk(tmp_path / "set")
    next((tmp_path / "set").glob("*.arrow")).write_bytes(b"no")
    with pytest.raises(DataError, match=r"^the data set in .*set cannot be read \(.*\): save it again$"):
        load(tmp_path / "set")


def test_names_on_the_hub(monkeypatch):
    asked = []

    def offline(*given):
        asked.append(given)
        raise ConnectionError("Couldn't reach 'who/cats' on the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(
        DataError, match=r"^the data set who/cats cannot be loaded \(Couldn't reach .* on the Hub\): check its name and"
    ):
        load("hf:who/cats:small")
    assert asked == [("who/cats", "small")]
    monkeypatch.setattr(datasets, "load_dataset", lambda name, configuration: of_images())
    assert load("hf:who/cats").spec.name == "cats"
    assert exists("hf:who/cats")
    assert is_name("hf:who/cats")
    assert name_of("hf:who/cats:small") == "cats-small"
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs Hugging Face datasets: run `pip install 'ancestral\[datasets\]'`$"):
        load("hf:who/cats")
