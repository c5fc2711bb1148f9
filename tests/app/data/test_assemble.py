"""The held-out split, the statistics and the fingerprint against their definitions."""

import numpy as np
import pytest
import torch

from ancestral.app.data import DataError
from ancestral.app.data import assemble as module
from ancestral.app.data.assemble import assemble, count, held_out, moments
from ancestral.app.data.dataset import Split
from ancestral.app.data.hashing import fingerprint


@pytest.mark.parametrize(
    ("n", "size"), [(2, 1), (9, 1), (25, 2), (79, 7), (80, 20), (150, 20), (210, 21), (1000, 100), (150_000, 10_000)]
)
def test_a_tenth_is_held_out_or_enough_for_a_comparison_and_nothing_lost(n, size):
    train, test = held_out(n)
    assert len(test) == size
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(n))


def test_the_choice_is_random_and_always_the_same():
    _, test = held_out(1000)
    assert torch.equal(test, held_out(1000)[1])
    assert test[:5].tolist() == [6, 33, 39, 55, 56]  # a change would mix the splits of earlier runs
    gaps = test.diff()
    assert gaps.min() == 1
    assert gaps.max() > 20  # evenly spaced picks would all be 10 apart


def test_every_class_gives_its_share():
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)[torch.randperm(1000)]
    _, test = held_out(1000, labels)
    assert torch.bincount(labels[test]).tolist() == [50, 30, 20]


@pytest.mark.parametrize(
    "labels", [[0] * 50 + [1], [0, 0, 1], list(range(90)) + [90 + i // 2 for i in range(10)], [0, 1, 2, 2]]
)
def test_no_class_is_held_out_whole(labels):
    y = torch.tensor(labels)
    train, test = held_out(len(y), y)
    assert len(test) >= 1
    assert set(y[train].tolist()) == set(labels)


def test_when_every_class_has_one_sample_one_is_held_out_all_the_same():
    train, test = held_out(3, torch.arange(3))
    assert (len(train), len(test)) == (2, 1)


@pytest.mark.parametrize("chunk", [1 << 22, 100])
def test_moments_of_levels_are_exact(chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    array = torch.randint(0, 17, (300, 2, 5, 5), dtype=torch.uint8)
    mean, std = moments(array, levels=17)
    x = array.numpy().astype(np.float64) / 16
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, x.std(axis=(0, 2, 3)), rtol=1e-13)


@pytest.mark.parametrize("chunk", [1 << 22, 100])
def test_moments_of_floats_are_those_of_float64(chunk, monkeypatch):
    """Sums in float32 would be wrong in the second digit for mean 1e4 and deviation 1."""
    monkeypatch.setattr(module, "CHUNK", chunk)
    array = (torch.randn(5000, 2) + torch.tensor([1e4, -1.0])).float()
    mean, std = moments(array, levels=None)
    np.testing.assert_allclose(mean, array.double().mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, array.double().std(0, correction=0), rtol=1e-9)


def test_the_deviation_of_a_constant_channel_is_one():
    array = torch.tensor([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]])
    assert moments(array, None)[1] == pytest.approx((1.0, (8 / 3) ** 0.5))
    assert moments(torch.full((4, 1, 2, 2), 7, dtype=torch.uint8), 256) == ((pytest.approx(7 / 255),), (1.0,))


def test_statistics_are_those_of_the_training_split():
    data = assemble("x", Split({"x": torch.tensor([[0.0], [2.0]])}), Split({"x": torch.tensor([[100.0]])}), levels=None)
    assert (data.spec.mean, data.spec.std, data.spec.range, data.spec.size) == ((1.0,), (1.0,), (0.0, 2.0), 2)


@pytest.mark.parametrize(("levels", "kind"), [(2, "binary"), (17, "uint8"), (256, "uint8")])
def test_levels_name_the_kind(levels, kind):
    spec = assemble("x", Split({"x": torch.zeros(20, 3, dtype=torch.uint8)}), levels=levels).spec
    assert (spec.kind, spec.range, spec.levels, spec.shape) == (kind, (0.0, 1.0), levels, (3,))


def test_the_fingerprint_changes_with_all_that_is_learned_from():
    array = torch.arange(8, dtype=torch.uint8).reshape(4, 2)
    labels, captions = torch.tensor([0, 1, 0, 1]), ("a", "b", None, "d")
    other = array.clone()
    other[3, 1] += 1
    splits = [
        Split({"x": array}),
        Split({"x": other}),
        Split({"x": array.reshape(2, 4)}),
        Split({"x": array, "class": labels}),
        Split({"x": array, "class": labels.flip(0)}),
        Split({"x": array, "text": captions}),
        Split({"x": array, "text": captions[::-1]}),
    ]
    prints = [fingerprint(split, 256) for split in splits] + [fingerprint(splits[0], 8)]
    assert len(set(prints)) == len(prints)
    assert fingerprint(Split({"x": array.clone()}), 256) == prints[0]
    assert all(len(bytes.fromhex(digits)) == 16 for digits in prints)


def test_too_little_data_is_said():
    one = Split({"x": torch.zeros(1, 2)})
    with pytest.raises(DataError, match=r"^x holds 1 sample: at least 2 are needed, one to train on and one to hold out"):
        assemble("x", one, levels=None)
    with pytest.raises(DataError, match=r"^the held-out split of x is empty: at least 1 sample is needed there$"):
        assemble("x", one, Split({"x": torch.zeros(0, 2)}), levels=None)
    with pytest.raises(DataError, match=r"^the training split of x is empty"):
        assemble("x", Split({"x": torch.zeros(0, 2)}), one, levels=None)


def test_a_random_split_is_told():
    assert assemble("x", Split({"x": torch.randn(2000, 1)}), levels=None).notes == (
        "held out 200 of 2,000 samples, chosen at random",
    )


def test_counts_read_as_words():
    assert [count(1, "image"), count(1204, "image"), count(2, "class", "classes")] == [
        "1 image",
        "1,204 images",
        "2 classes",
    ]
