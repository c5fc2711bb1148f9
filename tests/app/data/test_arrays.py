"""Arrays and array files: all orders of axes, every way to be wrong."""

import zipfile

import numpy as np
import pytest
import torch

from ancestral.app.data import DataError, load

RANDOM = np.random.RandomState(0)


def ints(*shape):
    return RANDOM.randint(256, size=shape, dtype=np.uint8)


def floats(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("array", "axes", "shape", "told"),
    [
        (floats(20, 5), None, (5,), "20 vectors of 5 numbers"),
        (ints(20, 5), None, (5,), "20 vectors of 5 numbers"),
        (ints(20, 9, 40), None, (1, 9, 40), "20 images of 9x40 in 1 channel"),
        (ints(20, 9, 40) > 99, None, (1, 9, 40), "20 images of 9x40 in 1 channel"),
        (floats(20, 2, 40), None, (2, 40), "20 signals of 2 channels and 40 steps"),
        (floats(20, 40, 2), None, (2, 40), "20 signals of 2 channels and 40 steps"),
        (floats(20, 1, 40), None, (1, 40), "20 signals of 1 channel and 40 steps"),
        (floats(20, 28, 28), None, (1, 28, 28), "20 images of 28x28 in 1 channel"),
        (floats(20, 8, 8), None, (1, 8, 8), "20 images of 8x8 in 1 channel"),
        (floats(20, 17, 18), None, (1, 17, 18), "20 images of 17x18 in 1 channel"),
        (ints(20, 6, 7, 3), None, (3, 6, 7), "20 images of 6x7 in 3 channels"),
        (ints(20, 3, 6, 7), None, (3, 6, 7), "20 images of 6x7 in 3 channels"),
        (ints(20, 6, 7, 4), None, (4, 6, 7), "20 images of 6x7 in 4 channels"),
        (ints(20, 6, 7, 1), None, (1, 6, 7), "20 images of 6x7 in 1 channel"),
        (floats(20, 1, 6, 7), None, (1, 6, 7), "20 images of 6x7 in 1 channel"),
        (floats(20, 40), "n l", (1, 40), "20 signals of 1 channel and 40 steps"),
        (floats(20, 40, 2), "n c l", (40, 2), "20 signals of 40 channels and 2 steps"),
        (floats(20, 2, 40), "n l c", (40, 2), "20 signals of 40 channels and 2 steps"),
        (ints(20, 2, 40), "ncl", (2, 40), "20 signals of 2 channels and 40 steps"),
        (floats(20, 2, 40), "N H W", (1, 2, 40), "20 images of 2x40 in 1 channel"),
        (ints(20, 2, 6, 7), "n c h w", (2, 6, 7), "20 images of 6x7 in 2 channels"),
        (ints(6, 7, 3, 20), "h,w,c,n", (3, 6, 7), "20 images of 6x7 in 3 channels"),
        (ints(20, 6, 7, 3), "n d d d", (126,), "20 vectors of 126 numbers"),
        (ints(4, 5, 6, 7, 3), "n n h w c", (3, 6, 7), "20 images of 6x7 in 3 channels"),
        (ints(20, 2, 6, 7, 3), "n c h w c", (6, 6, 7), "20 images of 6x7 in 6 channels"),
        (floats(20, 1), None, (1,), "20 vectors of 1 number"),
    ],
)
def test_axes(array, axes, shape, told):
    data = load(array, axes=axes)
    assert data.spec.shape == shape
    assert data.notes[0] == f"read as {told}"
    assert (len(data.train), len(data.test), data.spec.name) == (18, 2, "array")


@pytest.mark.parametrize(
    ("found", "shape", "axes"),
    [
        ((5, 8, 8), (5, 8, 8), "n c h w"),  # one order leaves squares
        ((8, 8, 5), (5, 8, 8), "n h w c"),
        ((16, 8, 8), (16, 8, 8), "n c h w"),
        ((8, 8, 9), (9, 8, 8), "n h w c"),
        ((4, 4, 3), (3, 4, 4), "n h w c"),
        ((2, 6, 7), (2, 6, 7), "n c h w"),  # else the smaller axis
        ((6, 7, 2), (2, 6, 7), "n h w c"),
        ((4, 9, 3), (3, 4, 9), "n h w c"),
        ((3, 9, 3), (3, 9, 3), "n c h w"),  # else the first
    ],
)
def test_channels_of_images_that_could_be_first_or_last(found, shape, axes):
    data = load(floats(10, *found))
    other = {"n c h w": "n h w c", "n h w c": "n c h w"}[axes]
    assert data.spec.shape == shape
    assert data.notes[0].endswith(f'; the axes are taken as "{axes}" (train, compare: --axes "{other}" for the other order)')
    moved = load(floats(10, *found), axes=other)
    assert moved.spec.shape == (found if other == "n c h w" else (found[2], found[0], found[1]))
    assert "axes" not in moved.notes[0]
    first = (moved.spec.shape, load(floats(10, *moved.spec.shape), shape=moved.spec.shape))
    assert first[1].spec.shape == first[0]  # as samples of such data are written


def test_axes_decide_which_arrays_of_a_file_belong_to_the_samples(tmp_path):
    np.savez(tmp_path / "a.npz", x=ints(6, 7, 3, 20), y=np.arange(20) % 2, angle=floats(20))
    data = load(tmp_path / "a.npz", axes="h w c n")
    assert (data.spec.shape, data.spec.classes, data.spec.numbers) == ((3, 6, 7), ("0", "1"), ("angle",))


def test_channels_have_names(tmp_path):
    np.savez(tmp_path / "a.npz", x=floats(20, 3), channel_names=["a", "b\n", "c"])
    assert load(tmp_path / "a.npz").spec.channels == ("a", "b\\n", "c")
    with pytest.raises(DataError, match=r"^2 names are given for 3 channels of the columns: give one for each$"):
        load({"x": floats(20, 3), "channel_names": ["a", "b"]})


def test_channels_last_are_moved_not_reshaped():
    array = ints(20, 6, 7, 3)
    data = load(array)
    found = torch.cat([data.train.array, data.test.array]).flatten(1).sort(0).values
    expected = torch.from_numpy(np.sort(array.transpose(0, 3, 1, 2).reshape(20, -1), axis=0))
    assert torch.equal(found, expected)
    signal = floats(20, 40, 2)
    first = load(signal).train.array[0].numpy()
    assert any(np.array_equal(first, sample.T) for sample in signal)


def test_kinds():
    assert load(ints(20, 4, 4)).spec.kind == "uint8"
    assert load(ints(20, 4, 4) > 99).spec.kind == "binary"
    assert load(ints(20, 4, 4) / 255).spec.kind == "uint8"
    real = load(floats(20, 4, 4)).spec
    assert (real.kind, real.levels) == ("real", None)
    assert real.range[0] < 0 < real.range[1]


def test_tensors_are_arrays():
    x = torch.randn(20, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    data = load(x, labels=torch.arange(20) % 2)
    assert data.spec.shape == (3, 5, 5)
    assert data.train.array.dtype == torch.float32
    assert data.spec.classes == ("0", "1")
    assert load(torch.randn(20, 5).bfloat16()).spec.shape == (5,)


def test_the_users_array_is_left_alone():
    array = floats(20, 5)
    before = array.copy()
    load(array).train.array.zero_()
    np.testing.assert_array_equal(array, before)


def test_npy(tmp_path):
    np.save(tmp_path / "signals.npy", floats(20, 40, 1))
    data = load(tmp_path / "signals.npy", labels=["a", "b"] * 10)
    assert (data.spec.name, data.spec.shape, data.spec.classes) == ("signals", (1, 40), ("a", "b"))


@pytest.mark.parametrize("key", ["x", "images", "data", "x_train", "whatever"])
def test_npz_names_of_the_data(tmp_path, key):
    np.savez(tmp_path / "a.npz", **{key: ints(20, 4, 4)})
    assert load(tmp_path / "a.npz").spec.shape == (1, 4, 4)


def test_npz_without_a_name(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", ints(20, 4, 4), ints(3))
    data = load(str(tmp_path / "a.npz"))
    assert data.spec.shape == (1, 4, 4)
    assert "arrays not used: arr_1" in data.notes


@pytest.mark.parametrize("y", ["y", "labels", "y_train"])
def test_npz_with_everything(tmp_path, y):
    x, x_test = ints(6, 4, 4), ints(4, 4, 4)
    np.savez(tmp_path / "a.npz", x=x, x_test=x_test, y_test=[2, 0, 1, 1], **{y: [0, 1, 2, 0, 1, 2]})
    data = load(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.train.array[:, 0], x)
    np.testing.assert_array_equal(data.test.array[:, 0], x_test)
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1, 2, 0, 1, 2], [2, 0, 1, 1])
    assert data.spec.classes == ("0", "1", "2")
    assert data.notes == ("read as 10 images of 4x4 in 1 channel",)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(3.0), r"^the array has shape \(\): expected \(N, D\) vectors, \(N, C, L\) signals, \(N, H, W\) or"),
        (floats(5), r"^the array has shape \(5,\): expected"),
        (floats(0, 4), r"^the array has shape \(0, 4\): expected"),
        (floats(4, 0), r"^the array has shape \(4, 0\): expected"),
        (
            floats(2, 2, 2, 2, 2),
            r"^the array has shape \(2, 2, 2, 2, 2\), which has 5 axes, and samples have at most 3: name the axes",
        ),
        (floats(1, 4), r"^array holds 1 sample: at least 2 are needed"),
        (np.array([["a", "b"]]), r"^the array must hold numbers, found the type <U1$"),
        (np.array([[None, {}]]), r"^the array must hold numbers, found the type object$"),
        (np.zeros((4, 4), dtype=complex), r"^the array must hold numbers, found the type complex128$"),
        (
            np.full((4, 4), np.inf),
            r"^the array holds 16 values that are not a finite float32 .* index \(0, 0\): remove",
        ),
    ],
)
def test_arrays_that_cannot_be_used(array, message):
    with pytest.raises(DataError, match=message):
        load(array)


@pytest.mark.parametrize(("shape", "axes"), [((4, 4), "n h w"), ((4, 2, 5, 5), "n c l"), ((4, 2, 2, 2, 2), "n c h w")])
def test_axes_that_do_not_fit(shape, axes):
    k = len(axes.split())
    with pytest.raises(
        DataError, match=rf"^the array has shape .*, and the axes '{axes}' name {k} axes: name all {len(shape)}"
    ):
        load(floats(*shape), axes=axes)


def test_labels_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"^the array has 20 samples but 1 label: one label per sample is needed$"):
        load(floats(20, 4), labels=[1])
    np.savez(tmp_path / "a.npz", x=floats(20, 4), y=np.zeros(20))
    with pytest.raises(DataError, match=r"a\.npz already holds labels \(y\): leave out `labels`$"):
        load(tmp_path / "a.npz", labels=[0] * 20)


@pytest.mark.parametrize("given", [{"y": [0] * 5}, {"y_test": [0] * 5}])
def test_labels_for_one_split_only(tmp_path, given):
    np.savez(tmp_path / "a.npz", x=floats(5, 4), x_test=floats(5, 4), **given)
    with pytest.raises(DataError, match=r"a\.npz has labels for one split only: give y and y_test, or neither$"):
        load(tmp_path / "a.npz")


def test_splits_of_different_shapes(tmp_path):
    np.savez(tmp_path / "a.npz", x=floats(5, 4), x_test=floats(5, 3))
    with pytest.raises(DataError, match=r"x and x_test of .* must agree in the shape of a sample, found \(5, 4\) and \(5"):
        load(tmp_path / "a.npz")


def test_files_that_cannot_be_used(tmp_path, monkeypatch):
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", x=np.array([[{}]]))
    for name in ("objects.npy", "objects.npz"):
        with pytest.raises(DataError, match=rf"{name} holds Python objects, which are not loaded: save an array of num"):
            load(tmp_path / name)
    np.savez(tmp_path / "b.npz", p=floats(4, 4), q=floats(4, 4))
    with pytest.raises(DataError, match=r"b\.npz holds no array of data: expected x, images, data or arr_0, found p, q$"):
        load(tmp_path / "b.npz")
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("x", "no array")
    with pytest.raises(DataError, match=r"text\.npz holds no array of data: expected x, images, data or arr_0, found nothing"):
        load(tmp_path / "text.npz")
    np.savez(tmp_path / "c.npz")
    with pytest.raises(DataError, match=r"found nothing$"):
        load(tmp_path / "c.npz")
    for suffix in (".npy", ".npz"):
        np.save(tmp_path / "whole.npy", floats(50, 5))
        whole = (tmp_path / "whole.npy").read_bytes() if suffix == ".npy" else (tmp_path / "b.npz").read_bytes()
        for content in (b"", b"text, not an array", b"\x93NUMPY\x01\x00\x04\x00'''\n", whole[: len(whole) // 2]):
            (tmp_path / f"d{suffix}").write_bytes(content)
            with pytest.raises(DataError, match=rf"d\{suffix} is damaged or (of another format|not complete): .+"):
                load(tmp_path / f"d{suffix}")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", denied)
    with pytest.raises(DataError, match=r"b\.npz cannot be read \(Permission denied\): check its permissions$"):
        load(tmp_path / "b.npz")
