"""A folder of one .npy file a sample."""

import numpy as np
import pytest
import torch

from ancestral.app.data import DataError, load
from ancestral.errors import UsageError

RANDOM = np.random.RandomState(0)


def fill(root, shape, n=12, where=lambda i: ""):
    rows = RANDOM.normal(size=(n, *shape)).astype(np.float32)
    for i, row in enumerate(rows):
        (root / where(i)).mkdir(parents=True, exist_ok=True)
        np.save(root / where(i) / f"{i:02}.npy", row)
    return rows


@pytest.mark.parametrize(
    ("sample", "axes", "shape"),
    [
        ((16, 16), None, (1, 16, 16)),
        ((5, 6, 6), None, (5, 6, 6)),
        ((6, 6, 2), None, (2, 6, 6)),
        ((2, 40), None, (2, 40)),
        ((7,), None, (7,)),
        ((3, 9, 3), "n h w c", (3, 3, 9)),
        ((2, 3, 6, 6), "n c c h w", (6, 6, 6)),
    ],
)
def test_each_file_is_a_sample(tmp_path, sample, axes, shape):
    rows = fill(tmp_path, sample)
    data = load(tmp_path, axes=axes)
    assert (data.spec.shape, len(data.train) + len(data.test)) == (shape, 12)
    total = torch.cat([data.x("train"), data.x("test")]).double().sum()
    assert float(total) == pytest.approx(float(rows.astype(np.float64).sum()), abs=1e-3)


def test_classes_splits_captions_and_numbers_are_those_of_a_folder(tmp_path):
    fill(tmp_path, (8, 8), where=lambda i: f"{('train', 'test')[i % 3 == 0]}/{'ab'[i % 2]}")
    (tmp_path / "train" / "a" / "02.txt").write_text("two")
    rows = [f"{('train', 'test')[i % 3 == 0]}/{'ab'[i % 2]}/{i:02}.npy,{i / 2}" for i in range(12)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,angle", *rows]))
    data = load(tmp_path)
    assert (len(data.train), len(data.test), data.spec.classes, data.spec.numbers) == (8, 4, ("a", "b"), ("angle",))
    assert data.notes[0] == "12 images of 8x8 in 1 channel in 2 classes, 1 caption, 11 without"


def test_beside_images_they_are_left_out(tmp_path, picture):
    fill(tmp_path, (8, 8), 3)
    for i in range(3):
        picture(tmp_path / f"{i}.png", i)
    data = load(tmp_path)
    assert data.spec.levels == 256
    assert "left out 3 files: 00.npy (not an image), 01.npy (not an image), 02.npy (not an image)" in data.notes
    with pytest.raises(UsageError, match=r"^axes applies to arrays, .* which holds images: leave it out$"):
        load(tmp_path, axes="n h w")


def test_what_cannot_be_used_is_said(tmp_path):
    fill(tmp_path / "set", (4, 4), 3)
    (tmp_path / "set" / "bad.npy").write_bytes(b"no array")
    assert (
        "left out 1 file: bad.npy (is damaged or of another format: its first bytes are not those of an array)"
        in load(tmp_path / "set").notes
    )
    np.save(tmp_path / "set" / "z.npy", np.zeros((4, 5)))
    with pytest.raises(DataError, match=r"one sample each, all of one shape, and 00\.npy has \(4, 4\), z\.npy \(4, 5\): make"):
        load(tmp_path / "set")
    fill(tmp_path / "volumes", (2, 4, 4), 3)
    with pytest.raises(DataError, match=r"is one sample: name the axes so that n is the first and only that one$"):
        load(tmp_path / "volumes", axes="n n h w")
    (tmp_path / "set" / "metadata.jsonl").write_text('{"file_name": "00.npy", "map_file_name": "01.npy"}')
    with pytest.raises(DataError, match=r"belong to pictures, and its samples are \.npy files: save all in one \.npz$"):
        load(tmp_path / "set")
