"""Labels of any spelling become classes; numbers become levels only when they are."""

import numpy as np
import pytest
import torch

from ancestral.app.data import DataError
from ancestral.app.data import assemble as assembling
from ancestral.app.data.labels import encode
from ancestral.app.data.levels import check_finite, quantise


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [
        ([2, 0, 1, 0], [2, 0, 1, 0], ("0", "1", "2")),
        ([5, -1, 5], [1, 0, 1], ("-1", "5")),
        ([1.0, 0.0], [1, 0], ("0", "1")),
        ([True, False], [1, 0], ("0", "1")),
        (["dog", "cat", "dog"], [1, 0, 1], ("cat", "dog")),
        (np.array(["dog", "cat"], dtype=object), [1, 0], ("cat", "dog")),
        (np.array([b"dog", b"cat"]), [1, 0], ("cat", "dog")),
        (np.array([[1], [0]], dtype=np.uint8), [1, 0], ("0", "1")),
        (torch.tensor([1, 0]), [1, 0], ("0", "1")),
    ],
)
def test_labels_are_numbered(labels, numbers, classes):
    (found,), names = encode([labels], "x")
    assert found.dtype == torch.int64
    assert (found.tolist(), names) == (numbers, classes)


def test_splits_share_their_classes():
    (train, test), names = encode([["b", "c"], ["a", "c"]], "x")
    assert (train.tolist(), test.tolist(), names) == ([1, 2], [0, 2], ("a", "b", "c"))


def test_known_names_are_kept():
    (found,), names = encode([[2, 0]], "x", ("a", "b", "c"))
    assert (found.tolist(), names) == ([2, 0], ("a", "b", "c"))


@pytest.mark.parametrize(
    ("groups", "names", "message"),
    [
        ([[0.5, 1]], (), r"^the labels of x must be whole numbers or names, found 0\.5 at index 0$"),
        ([[1, np.nan]], (), r"found nan at index 1$"),
        ([np.array(["a", None], dtype=object)], (), r"whole numbers or names, found a at index 0$"),
        ([np.eye(3)], (), r"^the labels of x must be one number or name per sample, found the shape \(3, 3\)$"),
        ([[]], (), r"found the shape \(0,\)$"),
        ([[[1], [2, 3]]], (), r"must be one number or name per sample, found lists of different lengths$"),
        ([[0, 3]], ("a", "b"), r"^the labels of x must be whole numbers from 0 to 1, one for each class name$"),
        ([["a"]], ("a", "b"), r"from 0 to 1"),
        ([[-1]], ("a", "b"), r"from 0 to 1"),
        ([["a"], [1]], (), r"^the labels of x are numbers in one split and names in the other: use one kind$"),
    ],
)
def test_labels_that_are_none(groups, names, message):
    with pytest.raises(DataError, match=message):
        encode(groups, "x", names)


RAMP = np.arange(256).reshape(4, 1, 8, 8)
BITS = RAMP % 2


@pytest.mark.parametrize(
    ("array", "images", "levels", "expected"),
    [
        (BITS.astype(bool), True, 2, BITS),
        (BITS.astype(np.float64), False, 2, BITS),
        (BITS.astype(np.int64), True, 2, BITS),
        ((BITS * 255).astype(np.uint8), True, 2, BITS),
        (RAMP.astype(np.uint8), True, 256, RAMP),
        (RAMP.astype(np.uint8), False, 256, RAMP),
        (RAMP.astype(np.int64), True, 256, RAMP),
        (RAMP.astype(np.int64), False, None, RAMP),
        (RAMP.astype(np.int64) - 1, True, None, RAMP - 1),
        (RAMP.astype(np.uint16) * 257, True, None, RAMP * 257.0),
        (RAMP / 255, True, 256, RAMP),
        ((RAMP / 255).astype(np.float32), True, 256, RAMP),
        (RAMP.astype(np.float32) * np.float32(1 / 255), True, 256, RAMP),
        ((RAMP / 255).astype(np.float32).astype(np.float64), True, 256, RAMP),
        ((RAMP / 255).astype(np.float16), True, 256, RAMP),
        (RAMP / 255, False, None, RAMP / 255),
        (RAMP / 256, True, None, RAMP / 256),
        (RAMP / 255 - 0.5, True, None, RAMP / 255 - 0.5),
        (RAMP.astype(np.float32), True, None, RAMP),
    ],
)
@pytest.mark.parametrize("chunk", [1 << 22, 64])
def test_numbers_become_levels_only_when_they_are(array, images, levels, expected, chunk, monkeypatch):
    monkeypatch.setattr(assembling, "CHUNK", chunk)
    (found,), n = quantise([array], images)
    assert n == levels
    assert found.dtype == (torch.float32 if levels is None else torch.uint8)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_both_splits_share_one_decision():
    bits, ramp = BITS.astype(np.uint8), RAMP.astype(np.uint8)
    (first, second), levels = quantise([bits, ramp], images=True)
    assert levels == 256
    assert first.max() == 1
    assert second.max() == 255


def test_arrays_that_torch_cannot_hold_are_copied():
    frozen = RAMP.astype(np.uint8)
    frozen.flags.writeable = False
    (found,), _ = quantise([frozen], images=True)
    found[0] = 0  # its own memory
    assert frozen[0].max() > 0
    (turned,), _ = quantise([RAMP.astype(np.uint8).swapaxes(2, 3)], images=True)
    assert turned.is_contiguous()


@pytest.mark.parametrize("chunk", [1 << 22, 4])
def test_values_that_are_not_finite_are_located(chunk, monkeypatch):
    monkeypatch.setattr(assembling, "CHUNK", chunk)
    array = np.zeros((5, 2, 3))
    check_finite(array, "x")
    array[3, 1, 2] = np.nan
    expected = "x holds 1 value that is not a finite float32 (NaN, infinite or too large), the first at index (3, 1, 2): "
    with pytest.raises(DataError) as caught:
        check_finite(array, "x")
    assert str(caught.value) == expected + "remove or replace such values"
    array[1, 0, 1], array[4, 0, 0] = np.inf, 1e300
    with pytest.raises(DataError, match=r"^x holds 3 values that are not .* the first at index \(1, 0, 1\): "):
        check_finite(array, "x")
    check_finite(np.zeros((2, 2), dtype=int), "x")
