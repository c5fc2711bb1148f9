"""The embedded digits, and the scenes composed of them."""

import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ancestral.app.data.digits import digits
from ancestral.app.data.scenes import compose, scenes


@pytest.fixture(scope="module")
def handwriting():
    return digits()


@pytest.fixture(scope="module")
def some():
    return scenes(train=600, test=60)


def test_digits_are_scikit_learns(handwriting):
    spec = handwriting.spec
    assert (spec.name, spec.shape, spec.kind, spec.levels) == ("digits", (1, 8, 8), "uint8", 17)
    assert spec.classes == tuple("0123456789")
    assert (len(handwriting.train), len(handwriting.test), spec.size) == (1618, 179, 1618)
    mine = torch.cat([handwriting.train.array, handwriting.test.array]).flatten(1).sort(0).values
    theirs = torch.from_numpy(load_digits().data).to(torch.uint8).sort(0).values
    assert torch.equal(mine, theirs)


def test_the_labels_are_those_of_the_images(handwriting):
    known = {image.astype(np.uint8).tobytes(): label for image, label in zip(*load_digits(return_X_y=True), strict=True)}
    for split in (handwriting.train, handwriting.test):
        for image, label in zip(split.array, split.labels, strict=True):
            assert known[image.numpy().tobytes()] == label


def test_every_digit_is_held_out_in_its_share(handwriting):
    counts = torch.bincount(handwriting.test.labels)
    assert counts.min() >= 17
    assert counts.max() <= 19


def test_scenes_have_every_truth(some):
    assert (some.spec.shape, some.spec.levels, some.spec.classes) == ((1, 32, 32), 256, ())
    for split, n in ((some.train, 600), (some.test, 60)):
        assert len(split) == len(split.captions) == len(split.boxes) == len(split.maps) == n
        assert split.labels is None
        assert split.maps.shape == (n, 32, 32)
        assert split.maps.dtype == split.array.dtype == torch.uint8


def test_boxes_hold_the_ink_of_their_digit_and_touch_it(some):
    for box, semantic in zip(some.train.boxes, some.train.maps, strict=True):
        assert box.shape[1] == 5
        assert box.dtype == torch.int64
        covered = torch.zeros_like(semantic)
        for digit, x, y, w, h in box.tolist():
            ink = semantic[y : y + h, x : x + w] == digit + 1
            assert ink[0].any()
            assert ink[-1].any()
            assert ink[:, 0].any()
            assert ink[:, -1].any()
            assert max(w, h) <= 16
            covered[y : y + h, x : x + w] += 1
        assert covered.max() == 1  # no two boxes overlap
        assert not semantic[covered == 0].any()


def test_the_map_is_where_the_picture_is_bright(some):
    assert torch.equal(some.train.maps > 0, some.train.array[:, 0] >= 64)


def test_one_to_three_digits_stand_in_a_scene(some):
    counts = torch.bincount(torch.tensor([len(box) for box in some.train.boxes]), minlength=4)
    assert counts[0] == 0
    assert len(counts) == 4
    assert counts[1:].min() > 150


def test_captions_tell_the_truth(some):
    """Every relation in a caption holds between the centres of the boxes, up to the margins the ink leaves."""
    sentence = re.compile(r"an? (\d)(?: (left of|right of|above|below) an? (\d))?(?: and (\S+(?: of)?) an? (\d))?")
    seen = set()
    for caption, box in zip(some.train.captions, some.train.boxes, strict=True):
        first, *parts = sentence.fullmatch(caption).groups()
        relations, others = parts[0::2], parts[1::2]
        names = [int(name) for name in (first, *others) if name is not None]
        assert names == box[:, 0].tolist()
        centres = box[:, 1:3] + box[:, 3:5] / 2
        for relation, centre in zip(relations, centres[1:], strict=False):
            dx, dy = (centre - centres[0]).tolist()
            distance = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
            assert distance > max(abs(dx), abs(dy)) - 8
            assert distance > 0
            seen.add(relation)
    assert seen == {"left of", "right of", "above", "below"}
    assert any("an 8" in caption for caption in some.train.captions)
    assert not any("a 8" in caption for caption in some.train.captions)


def test_scenes_are_the_same_every_time(some):
    again = scenes(train=600, test=60)
    assert again.spec == some.spec
    assert torch.equal(again.test.array, some.test.array)
    assert again.train.captions == some.train.captions


def test_training_and_held_out_scenes_are_of_different_handwriting(handwriting):
    """Scenes of all-white digits are white wherever there is ink: `compose` uses only the digits it is given."""
    white = handwriting.test.take(torch.arange(20))
    white.array[:] = 16
    made = compose(white, 50, np.random.RandomState(3))
    assert set(made.array.unique().tolist()) == {0, 255}
    shown = {row[0] for box in made.boxes for row in box.tolist()}
    assert shown <= set(white.labels.tolist())
    with pytest.raises(ValueError, match="labelled"):
        compose(type(white)({"x": white.array}), 1, np.random.RandomState(0))
