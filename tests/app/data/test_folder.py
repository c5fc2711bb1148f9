"""A folder of images: what is found, split, classed, captioned, left out and said."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ancestral.app.data import DataError, load
from ancestral.app.data import decode as decoding
from ancestral.app.data.folder import scan


def fill(root, picture, n=10, **how):
    for i in range(n):
        picture(root / f"{i:02}.png", i, **how)
    return root


def everything(data):
    """All samples in the order of their files: the splits keep it."""
    return torch.cat([data.train.array, data.test.array]).flatten(1)[:, 0].sort().values.tolist()


def test_images_keep_a_common_small_size_and_their_order(tmp_path, picture):
    data = load(fill(tmp_path / "set", picture, size=(12, 9)))
    assert (data.spec.name, data.spec.shape, data.spec.kind, data.spec.levels) == ("set", (1, 9, 12), "uint8", 256)
    assert everything(data) == list(range(10))
    assert data.train.array[:, 0, 0, 0].diff().min() > 0
    assert data.notes == ("10 images", "held out 1 of 10 samples, chosen at random")
    assert (data.train.labels, data.train.captions, data.spec.classes) == (None, None, ())


def test_a_folder_is_searched_at_every_depth_in_any_case_of_suffix(tmp_path, picture):
    picture(tmp_path / "a" / "b" / "1.PNG", 1)
    picture(tmp_path / "a" / "2.JPeG", 2)
    picture(tmp_path / "3.bmp", 3)
    assert scan(tmp_path).images == ["3.bmp", "a/2.JPeG", "a/b/1.PNG"]
    assert "no classes: the images do not all lie in sub-folders at one level" in load(tmp_path).notes


def test_hidden_files_are_passed_over_and_links_followed_once(tmp_path, picture):
    root = tmp_path / "set"
    picture(root / ".hidden" / "1.png", 1)
    picture(root / "__MACOSX" / "2.png", 1)
    picture(root / ".3.png", 1)
    (root / "Thumbs.db").write_bytes(b"")
    picture(root / "a" / "4.png", 1)
    picture(tmp_path / "elsewhere" / "5.png", 1)
    os.symlink(tmp_path / "elsewhere", root / "linked")
    os.symlink(root, root / "a" / "loop")
    assert scan(root).images == ["a/4.png", "linked/5.png"]
    assert scan(root).other == []


def test_sub_folders_are_classes(tmp_path, picture):
    for i in range(10):
        picture(tmp_path / "dog" / f"{i}.png", 200 + i)
        picture(tmp_path / "cat" / f"{i}.png", 100 + i)
    data = load(tmp_path)
    assert data.spec.classes == ("cat", "dog")
    for split in (data.train, data.test):
        assert split.labels.tolist() == (split.array[:, 0, 0, 0] >= 200).long().tolist()
    assert len(data.test) == 2
    assert set(data.test.labels.tolist()) == {0, 1}
    assert data.notes[0] == "20 images in 2 classes"


def test_folders_that_all_images_share_are_no_classes(tmp_path, picture):
    fill(tmp_path / "data" / "images", picture)
    assert load(tmp_path).spec.classes == ()
    fill(tmp_path / "data" / "more", picture)
    assert load(tmp_path).spec.classes == ("images", "more")


@pytest.mark.parametrize(("train", "held_out"), [("train", "test"), ("training", "validation"), ("train", "val")])
def test_top_level_split_folders(tmp_path, picture, train, held_out):
    for name in ("cat", "dog"):
        fill(tmp_path / train / name, picture, 5)
    fill(tmp_path / held_out / "dog", picture, 3)
    picture(tmp_path / "stray.png")
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (10, 3)
    assert data.spec.classes == ("cat", "dog")
    assert data.test.labels.tolist() == [1, 1, 1]
    assert "left out 1 file: stray.png (outside the split folders)" in data.notes
    assert "held out 3 of 13 images: those of the test or validation folder" in data.notes


def test_validation_and_test_are_held_out_together(tmp_path, picture):
    fill(tmp_path / "train", picture, 4)
    fill(tmp_path / "validation", picture, 2)
    fill(tmp_path / "test", picture, 3)
    assert len(load(tmp_path).test) == 5


def test_a_training_folder_alone_is_divided_at_random(tmp_path, picture):
    fill(tmp_path / "train", picture, 20)
    data = load(tmp_path)
    assert (len(data.train), len(data.test), data.spec.classes) == (18, 2, ())


def test_beside_other_folders_train_is_a_class(tmp_path, picture):
    for name in ("car", "plane", "train"):
        fill(tmp_path / name, picture, 4)
    assert load(tmp_path).spec.classes == ("car", "plane", "train")


def test_a_training_folder_of_broken_images_is_said(tmp_path, picture):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").write_bytes(b"no")
    picture(tmp_path / "test" / "b.png")
    with pytest.raises(DataError, match=r"^no image in the training folder of .* can be read: at least 1 is needed"):
        load(tmp_path)


def test_captions_are_found_and_counted(tmp_path, picture):
    fill(tmp_path, picture, 5)
    (tmp_path / "metadata.jsonl").write_text(
        "\n".join(json.dumps({"file_name": f"{i:02}.png", "text": f"number {i}"}) for i in range(3)) + "\n"
    )
    (tmp_path / "03.txt").write_text("beside\n")
    data = load(tmp_path)
    assert data.notes[0] == "5 images, 4 captions, 1 without"
    captions = dict(zip(data.train.array[:, 0, 0, 0].tolist(), data.train.captions, strict=True))
    captions |= dict(zip(data.test.array[:, 0, 0, 0].tolist(), data.test.captions, strict=True))
    assert captions == {0: "number 0", 1: "number 1", 2: "number 2", 3: "beside", 4: None}


def test_files_that_give_no_image_are_left_out_and_named(tmp_path, picture):
    fill(tmp_path, picture, 4)
    (tmp_path / "x1.jpg").write_bytes(b"text")
    whole = picture(tmp_path / "x2.png", size=(64, 64)).read_bytes()
    (tmp_path / "x2.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a.csv").write_text("1,2")
    (tmp_path / "readme.txt").write_text("hello")
    data = load(tmp_path)
    note = "left out 4 files: a.csv (not an image), readme.txt (not an image), x1.jpg (not an image), x2.png (broken)"
    assert note in data.notes
    assert everything(data) == [0, 1, 2, 3]
    for i in range(4):
        (tmp_path / f"b{i}.dat").write_text("")
    assert any(note.startswith("left out 8 files: ") and note.endswith(" and 3 more") for note in load(tmp_path).notes)


def test_grey_is_one_channel_and_any_colour_makes_three(tmp_path, picture):
    fill(tmp_path, picture, 4)
    picture(tmp_path / "deep.png", 65535, mode="I;16")
    picture(tmp_path / "bits.png", 1, mode="1")
    picture(tmp_path / "stored.png", (7, 7, 7), mode="RGB")  # grey, stored as RGB
    data = load(tmp_path)
    assert data.spec.shape == (1, 8, 8)
    assert everything(data) == [0, 1, 2, 3, 7, 255, 255]
    picture(tmp_path / "red.png", (9, 0, 0), mode="RGB")
    data = load(tmp_path)
    assert data.spec.shape == (3, 8, 8)
    assert len(data.spec.mean) == 3
    assert everything(data) == [0, 1, 2, 3, 7, 9, 255, 255]


def test_black_and_white_images_are_binary(tmp_path, picture):
    for i in range(6):
        picture(tmp_path / f"{i}.png", i % 2, mode="1")
    data = load(tmp_path)
    assert (data.spec.kind, data.spec.levels) == ("binary", 2)
    assert everything(data) == [0, 0, 0, 1, 1, 1]


def test_transparency_and_animation_are_told(tmp_path, picture):
    fill(tmp_path, picture, 4)
    picture(tmp_path / "clear.png", (0, 0, 0, 0), mode="RGBA")
    picture(tmp_path / "full.png", (0, 0, 0, 255), mode="RGBA")
    frames = [Image.new("L", (8, 8), i) for i in (0, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    notes = load(tmp_path).notes
    assert "1 image with transparency composited on white" in notes
    assert "1 animated image: the first frame is used" in notes


@pytest.mark.parametrize(
    ("sizes", "shape", "enlarged"),
    [
        ([(100, 100)] * 4, (64, 64), 0),  # one size, but large
        ([(640, 480)] * 3, (56, 72), 0),  # the aspect is kept, with about as many pixels
        ([(480, 640)] * 3, (72, 56), 0),
        ([(30, 40), (50, 31), (33, 33), (70, 30)], (24, 32), 1),  # median shorter side 30.5, aspect between 1 and 50:31
        ([(30, 40), (50, 31), (20, 20)], (24, 24), 1),
        ([(5, 6), (7, 5), (6, 6)], (8, 8), 3),
        ([(5, 6)] * 3, (6, 5), 0),  # one small size is kept
    ],
)
def test_without_a_size_a_sensible_one_is_chosen_and_said(tmp_path, picture, sizes, shape, enlarged):
    for i, size in enumerate(sizes):
        picture(tmp_path / f"{i}.png", size=size)
    data = load(tmp_path)
    height, width = shape
    assert data.spec.shape == (1, height, width)
    changed = f"resized to {height}x{width}; choose another size with --size" in data.notes
    assert changed == (shape != (6, 5))
    assert any("enlarged" in note for note in data.notes) == bool(enlarged)
    if enlarged:
        assert f"{enlarged} image{'s' if enlarged > 1 else ''} smaller than {height}x{width} enlarged" in data.notes


@pytest.mark.parametrize(("size", "shape"), [(16, (16, 16)), ((10, 20), (10, 20)), (128, (128, 128))])
def test_a_size_is_kept_to(tmp_path, picture, size, shape):
    for i in range(3):
        picture(tmp_path / f"{i}.png", size=(40 + i, 30))
    data = load(tmp_path, size=size)
    assert data.spec.shape == (1, *shape)
    assert f"resized to {shape[0]}x{shape[1]}" in data.notes


def test_classes_are_named(tmp_path, picture):
    for name in ("cats", "dogs"):
        fill(tmp_path / name, picture, 3)
    assert load(tmp_path).notes[:2] == ("6 images in 2 classes", "classes: cats, dogs")
    for i in range(12):
        picture(tmp_path / f"k{i:02}" / "0.png", 1)
    assert "classes: cats, dogs, k00, k01, k02, k03, k04, k05, k06, k07 and 4 more" in load(tmp_path).notes


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAIN", "TEST"), ("train", "valid"), ("Training", "Val")])
def test_splits_in_any_case(tmp_path, picture, train, test):
    fill(tmp_path / train, picture, 5)
    fill(tmp_path / test, picture, 3)
    data = load(tmp_path)
    assert (len(data.train), len(data.test), data.spec.classes) == (5, 3, ())


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (("images", "masks"), True),
        (("Image", "Label"), True),
        (("trainA", "trainB"), True),
        (("A", "B"), True),
        (("trainA", "trainB", "testA", "testB"), True),
        (("annotations", "images"), True),
        (("input", "target"), True),
        (("cats", "dogs"), False),
        (("images", "masks", "other"), False),
    ],
)
def test_folders_that_look_like_pairs_are_asked_about(tmp_path, picture, names, asked):
    for name in names:
        fill(tmp_path / name, picture, 3)
    found = [note for note in load(tmp_path).notes if note.startswith(f"are the folders {names[0]} and {names[1]} pairs")]
    assert len(found) == asked
    assert all("give the folder of one of them" in note and "map_file_name" in note for note in found)


def test_wide_pictures_keep_their_aspect(tmp_path, picture):
    for i in range(3):
        picture(tmp_path / "same" / f"{i}.png", size=(513, 7))
        picture(tmp_path / "various" / f"{i}.png", size=(513 + i, 20))
    data = load(tmp_path / "same")
    assert data.spec.shape == (1, 7, 513)
    assert not any("resized" in note or "cropped" in note for note in data.notes)
    data = load(tmp_path / "various")
    assert data.spec.shape == (1, 16, 328)
    assert not any("smaller" in note for note in data.notes)


def test_what_is_cropped_is_said(tmp_path, picture):
    for i in range(3):
        picture(tmp_path / f"{i}.png", size=(100, 50))
    notes = load(tmp_path, size="32").notes
    assert "cropped at left and right to the aspect of 32x32: 50% of the pixels are cut away" in notes
    data = load(tmp_path, size="32x128")
    assert data.spec.shape == (1, 32, 128)
    assert "cropped at top and bottom to the aspect of 32x128: 50% of the pixels are cut away" in data.notes
    notes = load(np.zeros((9, 40, 20), np.uint8), size=10).notes
    assert "cropped at top and bottom to the aspect of 10x10: 50% of the pixels are cut away" in notes


def test_a_run_whose_default_size_was_another_still_finds_its_data(tmp_path, picture, monkeypatch):
    """Formerly the default was a square, so such runs hold squares of pictures that now keep their aspect."""
    from ancestral.app.api import train
    from ancestral.app.evaluate import data_of
    from ancestral.app.training.run import Run

    for i in range(6):
        picture(tmp_path / "set" / f"{i}.png", size=(100, 50))
    small = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=4", "train.previews=0")
    monkeypatch.setattr(decoding, "common_size", lambda headers: (48, 48))
    train(tmp_path / "set", budget="2it", out=tmp_path / "run", settings=small, quiet=True, device="cpu")
    monkeypatch.undo()
    assert Run(tmp_path / "run").recipe.data.size is None
    assert data_of(Run(tmp_path / "run")).spec.shape == (1, 48, 48)
    train(tmp_path / "set", budget="3it", out=tmp_path / "run", settings=small, quiet=True, device="cpu")
    train(tmp_path / "set", budget="2it", out=tmp_path / "new", settings=small, quiet=True, device="cpu")
    assert Run(tmp_path / "new").spec.shape == (1, 48, 88)


def test_progress_counts_to_the_end(tmp_path, picture):
    calls = []
    load(fill(tmp_path, picture, 5), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 5) for i in range(1, 6)]


def test_the_same_files_give_the_same_data_wherever_they_lie(tmp_path, picture):
    first = load(fill(tmp_path / "a" / "set", picture, 30))
    shutil.copytree(tmp_path / "a" / "set", tmp_path / "b" / "set")
    second = load(tmp_path / "b" / "set")
    assert second.spec == first.spec
    assert torch.equal(second.test.array, first.test.array)


def test_the_name_of_a_folder_given_by_a_relative_path(tmp_path, picture, monkeypatch):
    monkeypatch.chdir(fill(tmp_path / "flowers", picture, 3))
    assert load(".").spec.name == "flowers"


def test_images_that_do_not_fit_into_memory_are_refused_with_a_size_that_fits(tmp_path, picture, monkeypatch):
    fill(tmp_path, picture, 10)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2_000_000))
    with pytest.raises(DataError) as caught:
        load(tmp_path, size=2000)
    assert str(caught.value) == (
        f"10 images of {tmp_path} at 2000x2000 need 0.0 GB of memory, more than the 0.0 GB that are allowed (half of what is "
        "free): choose a smaller size, for example 312 (train, compare: --size 312), or set ANCESTRAL_MEMORY_GB to more "
        "gigabytes"
    )
    assert load(tmp_path, size=312).spec.shape == (1, 312, 312)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10))
    with pytest.raises(DataError, match=r"free\): use fewer images, or set ANCESTRAL_MEMORY_GB to more gigabytes$"):
        load(tmp_path)


def test_an_interrupted_decoding_stops_at_once(tmp_path, picture, monkeypatch):
    """After the interrupt, files that wait are not read any more."""
    fill(tmp_path, picture, 200)
    seen = []
    read = decoding.read
    monkeypatch.setattr(decoding, "read", lambda *given: seen.append(1) or read(*given))
    monkeypatch.setattr(os, "cpu_count", lambda: 1)

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, progress=interrupt)
    assert len(seen) < 200


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    formats = "bmp, gif, jpeg, jpg, png, tif, tiff, webp"
    assert str(caught.value) == f"the folder {tmp_path} holds no images (it is empty): expected {formats} files"


def test_pipes_and_devices_are_left_out(tmp_path, picture):
    fill(tmp_path, picture, 3)
    for name in ("x.png", "metadata.csv", "00.txt", "y.npy"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    found = [f"{name} (not a regular file)" for name in ("00.txt", "endless.png", "metadata.csv", "x.png", "y.npy")]
    assert f"left out 5 files: {', '.join(found)}" in load(tmp_path).notes


def test_names_cannot_forge_lines_or_colours(tmp_path, picture):
    for name in "ab":
        fill(tmp_path / f"{name}\x1b[31m\nerror: forged", picture, 3)
    (tmp_path / "x\nerror: forged.zip").touch()
    data = load(tmp_path)
    assert data.spec.classes == ("a\\x1b[31m\\nerror: forged", "b\\x1b[31m\\nerror: forged")
    assert all(note.isprintable() for note in data.notes)


@pytest.mark.parametrize("column", ["map_file_name", "conditioning_image_file_name"])
@pytest.mark.parametrize("where", ["../secret.png", "/secret.png", "a/../../secret.png", "..\\secret.png"])
def test_files_outside_of_the_folder_are_not_read(tmp_path, picture, column, where):
    fill(tmp_path / "set", picture, 3)
    picture(tmp_path / "secret.png", 1)
    where = str(tmp_path / "secret.png") if where[0] == "/" else where
    rows = (json.dumps({"file_name": f"{i:02}.png", column: where}) for i in range(3))
    (tmp_path / "set" / "metadata.jsonl").write_text("\n".join(rows))
    with pytest.raises(
        DataError, match=rf"metadata\.jsonl, line 1: {column} names .*secret\.png, which is outside of .*set: mo"
    ):
        load(tmp_path / "set")


@pytest.mark.parametrize(
    ("labels", "classes", "note"),
    [
        ([i % 3 * 5 for i in range(10)], ("0", "5", "10"), "classes from dataset.json: 0, 5, 10"),
        ([["cat", "dog"][i % 2] for i in range(10)], ("cat", "dog"), "classes from dataset.json: cat, dog"),
        (None, (), "dataset.json: no labels, so the images have no classes"),
        ([1] * 9, (), "no classes: dataset.json has no label for 1 image, e.g. b/09.png"),
        (
            [[0, 1]] * 10,
            (),
            "no classes: dataset.json gives a/00.png the label [0, 1], which is neither a whole number nor a name",
        ),
    ],
)
def test_labels_of_stylegan(tmp_path, picture, labels, classes, note):
    """They replace the sub-folders, which only divide the files there."""
    names = [f"{'ab'[i > 4]}/{i:02}.png" for i in range(10)]
    for i, name in enumerate(names):
        picture(tmp_path / name, i)
    pairs = None if labels is None else [[name, label] for name, label in zip(names, labels, strict=False)]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": pairs}))
    data = load(tmp_path)
    assert data.spec.classes == classes
    assert note in data.notes
    if classes:
        for image, label in zip(data.train.array[:, 0, 0, 0].tolist(), data.train.labels.tolist(), strict=True):
            assert classes[label] == str(labels[image])


def test_a_label_column_replaces_sub_folders_and_numbers_are_in_order(tmp_path, picture):
    for i in range(12):
        picture(tmp_path / "ab"[i % 2] / f"{i:02}.png", i)
    rows = [f"{'ab'[i % 2]}/{i:02}.png,{i + 1}" for i in range(12)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,Label", *rows]))
    data = load(tmp_path)
    assert data.spec.classes == tuple(map(str, range(1, 13)))
    assert "classes from the column label of metadata.csv: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more" in data.notes
    (tmp_path / "dataset.json").write_text("[1]")
    assert load(tmp_path).spec.classes == data.spec.classes
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r'dataset\.json must be \{"labels": \[\[image, class\], \.\.\.\]\}, as for StyleGAN'):
        load(tmp_path)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e300"])
def test_boxes_without_end_are_refused(tmp_path, picture, value):
    fill(tmp_path, picture, 3)
    row = '{"file_name": "00.png", "objects": {"bbox": [[0, 0, 1, VALUE]], "categories": ["a"]}}'
    (tmp_path / "metadata.jsonl").write_text(row.replace("VALUE", value))
    with pytest.raises(DataError, match=r"line 1: objects must be"):
        load(tmp_path)


def test_a_folder_of_other_files_is_said(tmp_path):
    (tmp_path / "a.doc").write_text("")
    with pytest.raises(DataError, match=r"holds no images \(only a\.doc\): expected bmp"):
        load(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"holds no images, but x\.npy: give one of these files instead$"):
        load(tmp_path)


def test_a_folder_of_broken_images_is_said(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"^no image in .* can be read: a\.png \(not an image\)$"):
        load(tmp_path)
    whole = picture(tmp_path / "a.png", size=(64, 64)).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:500])  # a good head and half a body
    with pytest.raises(DataError, match=r"^no image in .* can be read: a\.png \(broken\)$"):
        load(tmp_path)


def test_one_image_is_too_few(tmp_path, picture):
    picture(tmp_path / "set" / "a.png")
    with pytest.raises(DataError, match=r"^set holds 1 sample: at least 2 are needed"):
        load(tmp_path / "set")


def test_folders_that_cannot_be_read_are_said(tmp_path, picture, monkeypatch):
    fill(tmp_path, picture, 3)
    real = os.scandir
    denied = str(tmp_path / "closed")

    def scandir(path):
        if str(path) == denied:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (tmp_path / "closed").mkdir()
    assert "left out 1 file: closed/ (Permission denied)" in load(tmp_path).notes
    denied = str(tmp_path)
    with pytest.raises(DataError, match=r"^the folder .* cannot be read \(Permission denied\): check its permissions$"):
        load(tmp_path)
