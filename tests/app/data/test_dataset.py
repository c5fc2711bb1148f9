"""Batches: the right samples, in the right units, with their labels."""

import time

import numpy as np
import pytest
import torch

from ancestral.app.data import load
from ancestral.app.data.assemble import assemble
from ancestral.app.data.dataset import Split
from ancestral.errors import UsageError


def counting(n=20, shape=(1, 2, 3), labels=True):
    """Sample i holds only the level i."""
    array = torch.arange(n, dtype=torch.uint8).reshape(-1, *[1] * len(shape)).expand(n, *shape).contiguous()
    y = torch.arange(n) % 2 if labels else None
    return assemble(
        "counting", Split({"x": array, "class": y}), Split({"x": array + 100, "class": y}), levels=201, classes=("even", "odd")
    )


def test_a_batch_is_the_samples_asked_for_in_float_with_labels():
    batch = counting().batch(torch.tensor([3, 0, 3]))
    assert batch.x.shape == (3, 1, 2, 3)
    assert batch.x.dtype == torch.float32
    assert batch.x[:, 0, 0, 0].tolist() == pytest.approx([3 / 200, 0, 3 / 200])
    assert batch.conditions["class"].tolist() == [1, 0, 1]
    assert batch.conditions["class"].dtype == torch.int64
    assert len(batch) == 3


def test_the_held_out_split_is_another():
    assert counting().batch(torch.tensor([1]), "test").x[0, 0, 0, 0] == pytest.approx(101 / 200)


def test_without_labels_there_is_no_condition():
    assert counting(labels=False).batch(torch.tensor([1])).conditions == {}


def test_flip_mirrors_only_the_marked_images():
    images = np.random.RandomState(0).randint(256, size=(10, 2, 3, 3), dtype=np.uint8)
    data = load(images)
    index, flip = torch.tensor([0, 1, 2]), torch.tensor([True, False, True])
    plain, flipped = data.batch(index).x, data.batch(index, flip=flip).x
    assert torch.equal(flipped[1], plain[1])
    assert torch.equal(flipped[[0, 2]], plain[[0, 2]].flip(-1))
    assert not torch.equal(flipped[0], plain[0])


def test_values_turns_every_level_into_its_exact_float_and_leaves_floats():
    data = load(np.arange(256, dtype=np.uint8).reshape(4, 8, 8))
    values = data.values(torch.arange(256, dtype=torch.uint8))
    assert torch.equal(values, torch.arange(256, dtype=torch.float32) / 255)
    real = load(np.random.RandomState(0).normal(size=(20, 2)))
    assert real.values(real.train.array) is real.train.array


def test_a_batch_leaves_the_stored_floats_alone():
    data = load(np.random.RandomState(0).normal(size=(20, 2)))
    before = data.train.array.clone()
    data.batch(torch.tensor([0, 1])).x.add_(1)
    assert torch.equal(data.train.array, before)


def test_wrong_requests_are_usage_errors():
    data = load(np.random.RandomState(0).normal(size=(20, 2)))
    with pytest.raises(UsageError, match=r"^unknown split 'valid'. Known: train, test$"):
        data.batch(torch.tensor([0]), "valid")
    with pytest.raises(UsageError, match=r"^only images can be flipped, and the samples of array have shape \(2,\)$"):
        data.batch(torch.tensor([0]), flip=torch.tensor([True]))


def test_take_keeps_what_belongs_together():
    maps = torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1)
    boxes = tuple(torch.full((1, 5), i) for i in range(3))
    columns = {"x": maps.unsqueeze(1), "class": torch.arange(3), "text": ("a", None, "c"), "boxes": boxes, "map": maps}
    split = Split(columns).take(torch.tensor([2, 1]))
    assert split.array.flatten().tolist() == split.labels.tolist() == split.maps.flatten().tolist() == [2, 1]
    assert split.captions == ("c", None)
    assert [int(box[0, 0]) for box in split.boxes] == [2, 1]


def test_a_batch_of_64_small_images_takes_a_fraction_of_a_millisecond():
    data = load(np.random.RandomState(0).randint(256, size=(20_000, 28, 28), dtype=np.uint8))
    index = torch.randint(len(data.train), (64,))
    times = []
    for _ in range(200):
        start = time.perf_counter()
        data.batch(index)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3e-3  # 0.02 ms on an idle machine; a loop over samples would take more than 0.5 ms
