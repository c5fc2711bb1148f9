"""Rows that exist only as a function: a set of a terabyte starts at once, in flat memory, and goes on where it stopped."""

import time

import numpy as np
import psutil
import pytest
import torch

from ancestral.app.api import plan
from ancestral.app.data import DataError, load
from ancestral.app.data.streamed import Rows, Streamed

SHARDS, EACH = 10_000, 9_000


class Virtual:
    """Images that are computed from their number: 90 million of 3x64x64, which are 1.1 TB."""

    shape, dtype, slow, identity = (3, 64, 64), np.dtype(np.uint8), True, "virtual"

    def __init__(self, shards=SHARDS, each=EACH):
        self.starts = np.arange(shards + 1, dtype=np.int64) * each
        self.seen = 0

    def __len__(self):
        return int(self.starts[-1])

    def read(self, rows):
        assert ((rows >= 0) & (rows < len(self))).all()
        self.seen += len(rows)
        wave = np.arange(64)[:, None] * (rows[:, None, None, None] % 7 + 1) + np.arange(64) * (
            rows[:, None, None, None] % 5 + 1
        )
        return np.broadcast_to(wave, (len(rows), *self.shape)).astype(np.uint8)


class Labels(Virtual):
    """The class of each of them."""

    shape, dtype, slow = (), np.dtype(np.int64), False

    def read(self, rows):
        return rows % 3


class Captions(Virtual):
    """The caption of each of them."""

    shape, dtype, slow = (), np.dtype(object), False

    def read(self, rows):
        return np.array([f"wave {row % 7}" for row in rows.tolist()], dtype=object)


def test_it_is_what_a_source_offers():
    assert isinstance(Virtual(), Rows)
    assert len(Virtual()) * 3 * 64 * 64 > 1e12


def test_a_terabyte_starts_within_seconds_in_flat_memory(tmp_path):
    columns = {"x": Virtual(), "class": Labels(), "text": Captions(), "class_names": "abc", "name": "virtual"}
    small = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=8", "train.previews=0", "train.precision=fp32")
    process = psutil.Process()
    began, before = time.monotonic(), process.memory_info().rss
    planned = plan(columns, budget="3it", out=tmp_path / "run", condition="text", settings=small, device="cpu")
    steps = [step.step for step in planned.begin()]
    took, grown = time.monotonic() - began, process.memory_info().rss - before
    assert steps[-1] == 3
    assert took < 60  # about 5 s on two free cores; the machine of the tests is shared
    assert grown < 1e9
    assert columns["x"].seen < 30_000  # of 90 million
    assert planned.data.spec.size == SHARDS * EACH - 10_000
    assert "held out 10,000 of 90,000,000 samples, every 9,000th" in planned.data.notes


def test_any_position_of_a_terabyte_is_at_hand():
    data = load({"x": Virtual()})
    for epoch in (0, 5):
        began = time.monotonic()
        position = epoch * len(data.train) + 77_654_321
        rows = data.order(1).at(position, 64)
        assert time.monotonic() - began < 2
        assert torch.equal(data.order(1).at(position - 10_000, 10_064)[-64:], rows)
        shards = (data.train["x"].selection.rows(rows.numpy()) // EACH).tolist()
        assert len(set(shards)) <= 16  # reads stay local


def test_held_out_rows_are_never_trained_on():
    data = load({"x": Virtual(7, 30)})
    train, test = (data.part(name)["x"].selection.rows(np.arange(len(data.part(name)))) for name in ("train", "test"))
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(210))
    assert torch.equal(data.order(0).at(0, len(train)).sort().values, torch.arange(len(train)))
    groups = data.train["x"].groups
    assert [train[g] // 30 for g in groups[:-1]] == list(range(7))
    assert groups[-1] == len(train) == 189


def test_columns_agree_and_conditions_are_encoded_with_the_batch(tmp_path):
    data = load({"x": Virtual(7, 30), "class": Labels(7, 30), "text": Captions(7, 30), "class_names": ["a", "b", "c"]})
    index = torch.tensor([3, 100, 3])
    rows = data.train["x"].selection.rows(index.numpy())
    batch = data.batch(index)
    assert batch.conditions["class"].tolist() == (rows % 3).tolist()
    assert torch.equal(batch.x, torch.from_numpy(Virtual().read(rows)).float() / 255)
    small = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=8", "train.previews=0")
    trainer = plan(data, budget="1it", out=tmp_path / "run", condition=["text", "class"], settings=small, device="cpu").begin()
    encoded = trainer.data.batch(index).conditions
    kinds = trainer.model.conditioner
    assert torch.equal(encoded["text"], kinds.kinds["text"].column([f"wave {row % 7}" for row in rows]))
    assert torch.equal(encoded["class"], batch.conditions["class"])
    assert torch.equal(trainer.data.asked(torch.tensor([2]))["text"], kinds.kinds["text"].column([f"wave {29 % 7}"]))


@pytest.mark.parametrize("family", ["latent", "vae", "gan"])
def test_families_train_on_rows(tmp_path, family):
    settings = ["train.batch=8", "train.previews=2"]
    if family == "latent":
        settings += [
            "model.autoencoder.width=8",
            "model.autoencoder.batch=8",
            "model.prior.width=8",
            "model.autoencoder.share=0.5",
        ]
    x = Virtual(7, 30)
    trainer = plan({"x": x}, model=family, budget="4it", out=tmp_path, settings=tuple(settings), device="cpu").begin()
    assert [step.step for step in trainer][-1] == 4
    if family == "latent":
        data = trainer.state.data
        assert any(note.startswith("latents are encoded with each batch") for note in data.notes)
        index = torch.arange(5)
        expected = trainer.model.encode(trainer.data.batch(index).x)
        assert torch.equal(data.batch(index).x, expected)
        flipped = data.batch(index, flip=torch.tensor([True] * 5)).x
        assert torch.equal(flipped, trainer.model.encode(trainer.data.batch(index).x.flip(-1)))
        sample = trainer.model.encode(trainer.data.x("train", torch.arange(189)))
        assert sample.mean((0, 2, 3)).abs().max() < 0.05
        assert sample.std((0, 2, 3)).sub(1).abs().max() < 0.05


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"boxes": Virtual()}, "columns that are read on demand are x, class, text, number.*; found boxes$"),
        ({"class": [1, 2]}, "the column class must be rows that are read on demand, since x is"),
        ({"class": Labels()}, "a column class and the names of the classes, class_names, belong together"),
        ({"x": Labels()}, r"rows must be uint8 or real numbers of shape .*, found int64 \(\)$"),
    ],
)
def test_wrong_columns(columns, message):
    with pytest.raises(DataError, match=message):
        load({"x": Virtual(), **columns})


def test_rows_of_real_numbers():
    class Points(Virtual):
        shape, dtype, starts = (2,), np.dtype(np.float32), None

        def __init__(self):
            self.points = np.random.RandomState(0).normal(3, 2, (100_000, 2)).astype(np.float32)

        def __len__(self):
            return len(self.points)

        def read(self, rows):
            return self.points[rows]

    data = load(Points())
    assert isinstance(data.train["x"], Streamed)
    assert data.spec.mean == pytest.approx([3, 3], abs=0.2)
    assert (data.spec.levels, len(data.test)) == (None, 10_000)
    assert data.sampled.x("train").shape == (10_000, 2)
