"""`load` finds the right door, resizes what is an image, and says what is wrong with a request."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import ancestral.app.data as data_room
from ancestral.app.data import DataError, built_in, load
from ancestral.app.data.assemble import assemble
from ancestral.app.data.dataset import Split
from ancestral.errors import AncestralError, UsageError

BUILT_IN = "digits, fashion-mnist, flowers, gaussians, moons, rings, scenes, scenes64, swiss-roll"


def test_the_room_offers_what_it_promises():
    names = ["DataError", "DataSet", "DataSpec", "Split", "built_in", "exists", "is_name", "load", "name_of", "size_of"]
    assert data_room.__all__ == names
    assert issubclass(DataError, AncestralError)
    assert (DataError.exit_code, UsageError.exit_code) == (1, 2)
    assert ", ".join(built_in()) == BUILT_IN


def test_a_data_set_is_itself():
    digits = load("digits")
    assert load(digits) is digits


def test_a_home_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", np.zeros((3, 3)))
    assert load("~/x.npy").spec.name == "x"


def test_a_built_in_name_goes_before_a_folder_of_that_name(tmp_path, monkeypatch, picture):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "moons" / "a.png", 1)
    picture(tmp_path / "moons" / "b.png", 2)
    data = load("moons")
    assert data.spec.shape == (2,)
    assert data.notes == ("the built-in moons was used; for the file or folder of that name write ./moons",)
    for source in ("./moons", Path("moons"), str(tmp_path / "moons")):
        assert load(source).spec.shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digitz", "unknown source 'digitz': did you mean 'digits'? Known: "),
        ("fashion_mnist", "unknown source 'fashion_mnist': did you mean 'fashion-mnist'? Known: "),
        (
            "qqq",
            f"unknown source 'qqq'. Known: {BUILT_IN}; otherwise give a folder of images or a .npy, .npz, .parquet",
        ),
        ("", "unknown source ''. Known: "),
    ],
)
def test_unknown_names(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        load(source)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(".npy, .npz, .parquet, .csv, .tsv or .tar file")


def test_paths_that_do_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "photo")
    assert str(caught.value) == f"there is no file or folder '{tmp_path}/photo': did you mean '{tmp_path}/photos'?"
    with pytest.raises(UsageError) as caught:
        load("zzz.npy")
    assert str(caught.value) == f"there is no file or folder 'zzz.npy': looked in {tmp_path}"
    for source in ("./a", "a/b", "~nobody-here/x", Path("digits"), "a\0b/c"):
        with pytest.raises(UsageError, match=r"^there is no file or folder "):
            load(source)


def test_files_of_other_kinds(tmp_path, picture):
    with pytest.raises(UsageError, match=r"a\.png is a single image: give the folder that holds the images$"):
        load(picture(tmp_path / "a.png"))
    (tmp_path / "a.h5").write_text("1,2")
    expected = r"a\.h5 is a file of an unknown type: .*\.parquet, \.csv, \.tsv, \.tar or a folder of images; convert it to"
    with pytest.raises(UsageError, match=expected):
        load(tmp_path / "a.h5")


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"x\.npy is neither a file nor a folder, but a pipe or a device: save"):
        load(tmp_path / "x.npy")


def test_a_path_that_may_not_be_looked_at(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(DataError, match=r"^secret/x cannot be read \(Permission denied\): check its name and permissions"):
        load("secret/x")


def test_things_that_are_no_source():
    with pytest.raises(
        UsageError, match=r"^a source is a name, a path, an array, a tensor, a mapping of columns or a DataSet, found list$"
    ):
        load([1, 2])


@pytest.mark.parametrize("size", [0, -3, 1.5, True, "64x", "axb", "0x8", (8,), (8, 0), (8, 8, 8)])
def test_sizes_that_are_none(size):
    with pytest.raises(UsageError) as caught:
        load("digits", size=size)
    expected = f"size must be a positive whole number of pixels or a pair (height, width), found {size!r}"
    assert str(caught.value) == expected


@pytest.mark.parametrize(("option", "value"), [("labels", [0, 1]), ("axes", "n h w")])
def test_options_for_arrays_only(option, value, tmp_path, picture):
    picture(tmp_path / "a.png")
    for source, name in (("moons", "moons"), (tmp_path, str(tmp_path)), (load("moons"), "moons")):
        with pytest.raises(UsageError) as caught:
            load(source, **{option: value})
        assert str(caught.value).startswith(f"{option} applies to arrays, .npy and .npz files, not to {name}")
        assert str(caught.value).endswith(": leave it out")


@pytest.mark.parametrize("axes", ["image", "h w c", "n", "n h", "n c d", "n c h w l"])
def test_axes_that_are_none(axes):
    with pytest.raises(UsageError, match=rf"^cannot read the axes '{axes}': name each axis by a letter, n for the samples"):
        load(np.zeros((3, 3)), axes=axes)


def test_levels_are_stretched_to_256_when_images_are_resized():
    digits = load("digits")
    data = load("digits", size=(16, 12))
    assert (data.spec.shape, data.spec.levels, data.spec.classes) == ((1, 16, 12), 256, digits.spec.classes)
    assert torch.equal(data.test.labels, digits.test.labels)
    assert "resized from 8x8 to 16x12" in data.notes
    assert data.train.array.max() == 255
    assert load("digits", size=16).spec.mean[0] == pytest.approx(digits.spec.mean[0], abs=0.01)
    assert data.spec.fingerprint != digits.spec.fingerprint
    same = load("digits", size=8)
    assert same.spec == digits.spec


def test_real_images_stay_real_when_resized():
    """A constant stays constant; averages of blocks survive scaling down by a whole factor."""
    array = np.random.RandomState(0).normal(size=(10, 3, 16, 16)).astype(np.float32)
    array[:, 1] = -2.5
    data = load(array, size=8)
    assert (data.spec.kind, data.spec.shape) == ("real", (3, 8, 8))
    samples = torch.cat([data.train.array, data.test.array])
    torch.testing.assert_close(samples[:, 1], torch.full((10, 8, 8), -2.5))
    assert data.spec.std[0] < 0.7  # white noise averaged over 2x2 pixels has about half its deviation


def test_images_in_memory_are_cropped_at_the_centre():
    array = np.zeros((10, 8, 24), dtype=np.uint8)
    array[:, :, 8:16] = 200
    data = load(array, size=8)
    assert (data.train.array == 200).all()


def test_what_cannot_be_resized():
    with pytest.raises(UsageError) as caught:
        load("moons", size=8)
    assert str(caught.value) == "size applies to images, and the samples of moons have shape (2,): leave it out"
    same = assemble("same", Split({"x": torch.zeros(4, 1, 8, 8, dtype=torch.uint8)}), levels=256)
    assert load(same, size=8) is same
