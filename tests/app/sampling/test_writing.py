"""Files of samples hold what the samples are: no channel is lost, and no real number is rounded to a level."""

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral.app.data import load
from ancestral.app.sampling.conditions import Conditions
from ancestral.app.sampling.pictures import read_picture
from ancestral.app.sampling.writing import picture_of, write

RANDOM = np.random.RandomState(0)


def levels(c):
    array = RANDOM.randint(0, 256, (20, c, 8, 8), dtype=np.uint8)
    array[:, 0, 0, 0] = range(20)
    return array


@pytest.mark.parametrize(
    ("array", "suffix", "said"),
    [
        (levels(1), ".png", ""),
        (levels(3), ".png", ""),
        (levels(2), ".npy", "each is a .npy file, because a PNG does not hold 2 channels"),
        (levels(4), ".npy", "each is a .npy file, because a PNG does not hold 4 channels"),
        (RANDOM.rand(20, 5, 8, 8), ".npy", "each is a .npy file, because a PNG does not hold 5 channels"),
        (RANDOM.rand(20, 1, 8, 8) * 9, ".tif", "each is a .tif file, because a PNG does not hold real numbers"),
        (RANDOM.rand(20, 3, 8, 8) * 9, ".npy", "each is a .npy file, because a PNG does not hold real numbers"),
        (RANDOM.rand(20, 2, 40), ".npy", "each is a .npy file, because a PNG holds only images"),
        (RANDOM.rand(20, 3), ".npy", "each is a .npy file, because a PNG holds only images"),
    ],
)
def test_a_folder_of_samples_reads_back_as_the_samples(tmp_path, array, suffix, said):
    data = load(array)
    assert write(data.x(), tmp_path / "out", data.spec, range(len(data.train))) == said
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {suffix}
    back = load(tmp_path / "out", shape=data.spec.shape)
    assert back.spec.shape == data.spec.shape
    x = torch.cat([back.x("train"), back.x("test")])
    torch.testing.assert_close(in_order(x), in_order(data.x()))


def in_order(x):
    """Rows in the order of their first value."""
    return x[x.flatten(1)[:, 0].argsort(stable=True)].float()


def test_no_channel_becomes_transparency(tmp_path):
    data = load(levels(3))
    write(data.x(), tmp_path / "out", data.spec, range(len(data.train)))
    with Image.open(tmp_path / "out" / "0.png") as image:
        assert image.mode == "RGB"


@pytest.fixture
def table(tmp_path):
    rows = "\n".join(f"{i % 2},7,{20_000_000 + i},{i / 8}" for i in range(40))
    (tmp_path / "t.csv").write_text(f"flag,one,user,v\n{rows}\n")
    return load(tmp_path / "t.csv")


def test_a_table_is_written_with_its_names_and_values(tmp_path, table):
    x = table.x("test") + torch.tensor([0.3, -0.6, 0.2, 0.0])
    said = write(x, tmp_path / "out.csv", table.spec, range(4))
    assert said == "they have the values of the data: flag (0 or 1), one (always 7), user (whole numbers)"
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "flag,one,user,v"
    expected = [[int(a), int(b), int(c), float(d)] for a, b, c, d in table.x("test").tolist()]
    assert [[float(cell) for cell in line.split(",")] for line in lines[1:]] == expected
    assert lines[1].split(",")[:3] == [str(v) for v in expected[0][:3]]


def test_classes_are_a_column_of_a_table_and_an_array_of_an_npz_and_read_back(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n" + "".join(f"{i / 8},{i},{'xy'[i % 2]}\n" for i in range(40)))
    data = load(tmp_path / "t.csv")
    names = [data.spec.classes[k] for k in data.labels("train").tolist()]
    for out in (tmp_path / "out.csv", tmp_path / "out.npz"):
        write(data.x(), out, data.spec, range(len(names)), classes=names)
        back = load(out)
        assert back.spec.classes == ("x", "y")
        for split in ("train", "test"):
            rows = (back.x(split)[:, 1] % 2).long()  # b is i, whose parity is the class
            assert torch.equal(back.labels(split), rows)
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "a,b,label"


def test_rows_of_several_classes_have_a_colour_each_and_no_path(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("a,b,label\n" + "".join(f"{i / 8},{i},{'xy'[i % 2]}\n" for i in range(40)))
    model = an.train(str(tmp_path / "t.csv"), budget="1it", out=tmp_path / "run", condition="class", quiet=True)
    data, drawn = load(tmp_path / "t.csv"), []
    monkeypatch.setattr("ancestral.app.plots.vectors", lambda x, spec, rows=(), **how: drawn.append((list(rows), how)))
    request = an.SampleRequest(n=4, steps=2, conditions=Conditions(classes=("x", "y")))
    sampling = request.prepare(model)
    picture_of(sampling.sample(), sampling, request, data.spec)
    rows, how = drawn[0]
    assert (rows, how["joined"]) == (["x", "y", "x", "y"], False)


def test_an_array_keeps_what_the_model_drew(tmp_path, table):
    x = table.x("test") + 0.25
    said = write(x, tmp_path / "out.npz", table.spec, range(4))
    assert said.endswith("; what the model drew is there as the array raw")
    with np.load(tmp_path / "out.npz") as file:
        np.testing.assert_array_equal(file["raw"], x.numpy())
        np.testing.assert_array_equal(file["x"][:, :3], table.x("test")[:, :3].numpy())
    real = load(RANDOM.rand(20, 3))
    assert write(real.x(), tmp_path / "real.npz", real.spec, range(18)) == ""
    with np.load(tmp_path / "real.npz") as file:
        assert set(file.files) == {"x", "seeds"}


@pytest.mark.parametrize(("top", "expected"), [(4095, lambda v: v), (200, lambda v: v / 200), (65535, lambda v: v / 65535)])
def test_a_deep_picture_for_an_edit_is_in_the_units_of_the_data(tmp_path, top, expected):
    """12-bit data keep their values; counts and full 16 bits become levels."""
    pictures = [np.linspace(0, top, 64).reshape(8, 8)[::step].astype(np.uint16) for step in (1, -1)]
    (tmp_path / "set").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "set" / f"{i}.png")
    x = read_picture(tmp_path / "set" / "0.png", load(tmp_path / "set").spec, "vary")
    np.testing.assert_allclose(x[0, 0].numpy(), expected(pictures[0].astype(float)), atol=2e-3)


def test_a_deep_picture_for_other_units_is_scaled_to_their_range(tmp_path):
    Image.fromarray(np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)).save(tmp_path / "x.png")
    x = read_picture(tmp_path / "x.png", load(RANDOM.uniform(-1, 1, (20, 8, 8))).spec, "vary")
    assert (x.min(), x.max()) == pytest.approx((-1, 1), abs=0.02)
