"""Scenes composed of emoji, here of a few made-up ones whose colours tell them apart."""

import io
import json
import re
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ancestral.app.data import DataError, load
from ancestral.app.data.emoji import PACKAGE, Emoji, read_emoji
from ancestral.app.data.scenes64 import CLASSES, compose, ground, scenes64

COLOURS = {"tiger": (255, 0, 0), "egg": (0, 255, 0), "axe": (0, 0, 255), "x-ray": (255, 255, 0), "kite": (255, 0, 255)}
GROUPS = {"tiger": "Animals & Nature", "egg": "Food & Drink", "axe": "Objects", "x-ray": "Objects", "kite": "Activities"}


def disc(colour):
    """A disc of one colour, transparent around it."""
    picture = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(picture).ellipse((4, 10, 59, 53), fill=(*colour, 255))
    return picture


@pytest.fixture(scope="module")
def few():
    return [Emoji(name, GROUPS[name], disc(colour)) for name, colour in COLOURS.items()]


@pytest.fixture(scope="module")
def some(few):
    return scenes64(400, 40, emoji=few)


def package(path, rows, pictures):
    """An archive as npm packs it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"emoji.json": json.dumps(rows).encode(), **pictures}.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def png(picture):
    stored = io.BytesIO()
    picture.save(stored, "PNG")
    return stored.getvalue()


def test_scenes_have_every_truth(some):
    spec = some.spec
    assert (spec.name, spec.shape, spec.levels, spec.classes, spec.boxes) == ("scenes64", (3, 64, 64), 256, (), 3)
    assert spec.box_classes == spec.map_classes == ("nature", "food", "object", "activity")
    assert len(some.train) == len(some.train.captions) == len(some.train.boxes) == len(some.train.maps) == 400
    assert some.train.array.dtype == some.train.maps.dtype == torch.uint8


def test_a_solid_pixel_of_the_map_has_the_colour_of_what_the_caption_names(some):
    """The picture, its map, its boxes and its caption, each drawn from another part of the code, tell of the same scene."""
    for i in range(100):
        picture, semantic, boxes = some.train.array[i], some.train.maps[i], some.train.boxes[i]
        names = re.findall("|".join(COLOURS), some.train.captions[i])
        assert [list(CLASSES).index(GROUPS[name]) for name in names] == boxes[:, 0].tolist()
        outside = torch.ones_like(semantic, dtype=torch.bool)
        for name, (label, x, y, w, h) in zip(names, boxes.tolist(), strict=True):
            window = slice(y, y + h), slice(x, x + w)
            solid = semantic[window] == label + 1
            assert solid.any(0).all()  # the box is the smallest: every row and column of it has ink
            assert solid.any(1).all()
            core = picture[:, *window][:, h // 4 : -h // 4, w // 4 : -w // 4].flatten(1)
            assert (core.int() - torch.tensor(COLOURS[name])[:, None]).abs().max() <= 8
            outside[window] = False
        assert not semantic[outside].any()


def test_objects_are_of_the_sizes_that_are_told(some):
    """A disc of 56x44 of 64 pixels, scaled to 16-32, is 14-28 wide and 11-22 tall, up to a pixel of its rim."""
    wide, tall = torch.cat(some.train.boxes)[:, 3:].unbind(1)
    assert (wide.min() >= 13, wide.max() <= 29) == (True, True)
    assert (tall.min() >= 10, tall.max() <= 23) == (True, True)
    assert wide.max() - wide.min() >= 13


def test_the_four_classes_are_equally_frequent_whatever_their_number_of_emoji(some):
    counts = torch.bincount(torch.cat(some.train.boxes)[:, 0])
    expected = counts.sum() / 4
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # chi-squared with 3 degrees: 1 in 1,000


def test_captions_have_the_article_that_one_says(few):
    spoken = {one.name: one.spoken for one in few}
    assert spoken == {"tiger": "a tiger", "egg": "an egg", "axe": "an axe", "x-ray": "an x-ray", "kite": "a kite"}
    assert Emoji("unicorn face", "", few[0].picture).spoken == "a unicorn face"
    assert Emoji("one-piece swimsuit", "", few[0].picture).spoken == "a one-piece swimsuit"


def test_scenes_are_the_same_every_time_and_a_longer_set_begins_alike(some, few):
    again = scenes64(500, 40, emoji=few)
    assert torch.equal(again.train.array[:400], some.train.array)
    assert again.train.captions[:400] == some.train.captions
    assert torch.equal(again.test.array, some.test.array)
    assert not torch.equal(some.train.array[:40], some.test.array)


def test_the_ground_is_plain_or_textured():
    """A quarter of one colour; no colour of a textured one further than 50 levels from another."""
    random = np.random.RandomState(0)
    ranges = np.array([np.ptp(ground(random).reshape(-1, 3), axis=0).max() for _ in range(400)])
    assert 70 <= (ranges == 0).sum() <= 130
    assert ranges.max() <= 51
    assert np.median(ranges[ranges > 0]) > 15


def test_progress_is_told(few):
    told = []
    compose(few, 250, np.random.RandomState(0), lambda done, total: told.append((done, total)))
    assert told == [(100, 250), (200, 250)]


def test_emoji_are_read_from_the_package(cache, few):
    rows = [{"name": name.upper(), "category": GROUPS[name], "image": f"{name}.png"} for name in COLOURS]
    rows.append({"name": "GRINNING FACE", "category": "Smileys & Emotion", "image": "grin.png"})
    pictures = {f"img/twitter/64/{name}.png": png(disc(colour)) for name, colour in COLOURS.items()}
    package(cache / "emoji" / PACKAGE, rows, pictures)
    found = read_emoji(CLASSES)
    assert [(one.name, one.group) for one in found] == [(one.name, one.group) for one in few]
    assert [one.picture.tobytes() for one in found] == [one.picture.tobytes() for one in few]
    composed = compose(found, 5, np.random.RandomState(0))
    assert torch.equal(composed.array, compose(few, 5, np.random.RandomState(0)).array)


def test_missing_emoji_are_told_with_the_command_that_fetches_them(cache):
    with pytest.raises(DataError, match=r"run `mkdir -p (\S+) && npm pack emoji-datasource-twitter@16\.0\.0 ") as told:
        load("scenes64")
    assert str(cache / "emoji") in str(told.value)


def test_a_damaged_package_is_told(cache):
    path = cache / "emoji" / PACKAGE
    package(path, [{"name": "TIGER", "category": "Animals & Nature", "image": "tiger.png"}], {})
    with pytest.raises(DataError, match="damaged or incomplete: delete it"):
        read_emoji(CLASSES)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="damaged or incomplete"):
        read_emoji(CLASSES)
