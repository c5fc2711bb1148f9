"""Captions, boxes, maps and paired images from folders and arrays, as they are handed to conditions."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ancestral.app.data import DataError, load
from ancestral.app.data.images import ImageError, read_numbers
from ancestral.conditioning import Conditioner, ImageCondition, LayoutCondition, MapCondition, TextCondition


@pytest.fixture
def folder(tmp_path):
    """Eight pictures of 20x10, the left half of which is covered by a box and by map value 2."""
    random = np.random.RandomState(0)
    rows = []
    for i in range(8):
        picture = random.randint(0, 256, (10, 20, 3), dtype=np.uint8)
        semantic = np.zeros((10, 20), dtype=np.uint8)
        semantic[:, :10] = 2
        for name, array in (("", picture), ("map-", semantic), ("pair-", 255 - picture)):
            Image.fromarray(array).save(tmp_path / f"{name}{i}.png")
        objects = {"bbox": [[0, 0, 10, 10], [12, 2, 4, 6]], "categories": ["cat", "dog"]}
        rows.append(
            {
                "file_name": f"{i}.png",
                "text": f"number {i}",
                "objects": objects,
                "map_file_name": f"map-{i}.png",
                "conditioning_image_file_name": f"pair-{i}.png",
            }
        )
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path, rows


def test_a_folder_gives_all_it_knows(folder, monkeypatch):
    path, _ = folder
    monkeypatch.setenv("ANCESTRAL_CACHE", str(path.parent / "cache"))
    data = load(path)
    spec = data.spec
    assert (spec.size + len(data.test), spec.captions, spec.boxes, spec.paired) == (8, spec.size, 2, 3)
    assert (spec.box_classes, spec.map_classes) == (("cat", "dog"), ("1", "2"))
    assert data.train.boxes[0].tolist() == [[0, 0, 0, 10, 10], [1, 12, 2, 4, 6]]
    assert data.train.maps[0, 0].tolist() == [2] * 10 + [0] * 10
    assert torch.equal(data.train.paired, 255 - data.train.array)
    assert not any("not used" in note for note in data.notes)


def test_boxes_and_maps_follow_their_image_when_it_is_cropped(folder, monkeypatch):
    """To 10x10 at the centre: columns 5 to 15 are left."""
    path, _ = folder
    monkeypatch.setenv("ANCESTRAL_CACHE", str(path.parent / "cache"))
    data = load(path, size=10)
    assert data.train.boxes[0].tolist() == [[0, 0, 0, 5, 10], [1, 7, 2, 3, 6]]
    assert data.train.maps[0, 3].tolist() == [2] * 5 + [0] * 5


def test_a_map_has_no_colours(folder, monkeypatch):
    path, _ = folder
    monkeypatch.setenv("ANCESTRAL_CACHE", str(path.parent / "cache"))
    Image.open(path / "map-3.png").convert("RGB").save(path / "map-3.png")
    with pytest.raises(DataError, match=r"map-3\.png cannot be read: its pixels are colours \(RGB\)"):
        load(path)


def test_numbers_of_classes_in_any_grey_or_palette(tmp_path):
    """16 bits are numbers, not brightness; what is above 255 is none."""
    numbers = np.arange(6).reshape(2, 3).astype(np.uint8)
    file = tmp_path / "map.png"
    indexed = Image.fromarray(numbers).convert("P")
    indexed.putdata(numbers.flatten().tolist())
    for picture in (Image.fromarray(numbers), Image.fromarray(numbers.astype(np.uint16)), indexed):
        picture.save(file)
        np.testing.assert_array_equal(read_numbers(file, (2, 3)), numbers)
    np.testing.assert_array_equal(read_numbers(file, (4, 6)), numbers.repeat(2, 0).repeat(2, 1))
    Image.fromarray(numbers > 2).save(file)
    np.testing.assert_array_equal(read_numbers(file, (2, 3)), numbers > 2)
    Image.fromarray(numbers.astype(np.uint16) * 100).save(file)
    with pytest.raises(ImageError, match="go up to 500"):
        read_numbers(file, (2, 3))


def test_what_a_folder_lacks_is_said(folder, monkeypatch):
    path, rows = folder
    monkeypatch.setenv("ANCESTRAL_CACHE", str(path.parent / "cache"))
    del rows[0]["map_file_name"]
    (path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="without map_file_name"):
        load(path)


def test_arrays_give_what_they_know_and_flips_keep_it_true(tmp_path):
    random = np.random.RandomState(0)
    x = random.randint(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    boxes = np.full((12, 2, 5), -1)
    boxes[:, 0] = (3, 1, 2, 4, 5)
    maps = random.randint(0, 4, (12, 8, 8))
    np.savez(tmp_path / "a.npz", x=x, captions=[f"a {i}" for i in range(12)], boxes=boxes, maps=maps, conditioning=x)
    data = load(tmp_path / "a.npz")
    kinds = {
        "text": TextCondition(8),
        "layout": LayoutCondition(data.spec.box_classes, data.spec.boxes, (8, 8), (8, 8), 8),
        "map": MapCondition(data.spec.map_classes, (8, 8), (8, 8), 8),
        "image": ImageCondition((3, 8, 8), (8, 8), (8, 8), True),
    }
    conditioner = Conditioner(kinds)
    conditioner.fit(data.train.columns)
    encoded = data.encoded(conditioner)
    index = torch.tensor([4, 2])
    plain = encoded.batch(index)
    flipped = encoded.batch(index, flip=torch.tensor([True, False]))
    assert torch.equal(flipped.conditions["map"][0], plain.conditions["map"][0].flip(-1))
    assert torch.equal(flipped.conditions["map"][1], plain.conditions["map"][1])
    assert torch.equal(flipped.conditions["image"][0].float() / 255, flipped.x[0])
    torch.testing.assert_close(flipped.conditions["layout"][0, 0], torch.tensor([3, 3 / 8, 2 / 8, 4 / 8, 5 / 8]))
    assert torch.equal(plain.conditions["map"], data.train.maps[index])
    assert conditioner.notes(mirrored=True) == (TextCondition.mirrored,)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("captions", ["a"], "samples and 1 captions"),
        ("boxes", np.zeros((12, 5), dtype=int), r"\(N, k, 5\)"),
        ("maps", np.zeros((12, 4, 4), dtype=int), "maps of"),
        ("conditioning", np.zeros((12, 8, 8, 3)), "uint8 images"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, column, values, message):
    np.savez(tmp_path / "a.npz", x=np.random.RandomState(0).randint(0, 256, (12, 8, 8, 3), dtype=np.uint8), **{column: values})
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npz")
