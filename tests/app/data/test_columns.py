"""Named columns: gathered, mirrored, resized and hashed each by its own rule, and read by conditions by name."""

import csv
import json

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.data import DataError, DataSpec, Split, load
from ancestral.app.data.columns import Boxes, Maps, Numbers, Pictures, Texts, Values, fit_box
from ancestral.conditioning import (
    ClassCondition,
    Condition,
    Conditioner,
    Context,
    ContextShape,
    ImageCondition,
    LayoutCondition,
    MapCondition,
    NumberCondition,
    TextCondition,
)
from ancestral.errors import AncestralError, UsageError


def everything(n=6) -> Split:
    random = np.random.RandomState(0)
    maps = torch.from_numpy(random.randint(0, 4, (n, 8, 8)).astype(np.uint8))
    return Split(
        {
            "x": maps[:, None] * 60,
            "class": torch.arange(n) % 3,
            "text": [f"a {i}" for i in range(n)],
            "boxes": [torch.tensor([[i % 3, 1, 2, 4, 5]]) for i in range(n)],
            "map": maps,
            "image": maps[:, None] * 50,
            "number": torch.arange(2.0 * n).view(n, 2),
            "depth": torch.rand(n, 5),
        }
    )


def test_every_column_has_its_kind_and_is_gathered_with_the_others():
    split = everything()
    kinds = {name: type(split[name]) for name in split}
    assert kinds == {
        "x": Pictures,
        "class": Values,
        "text": Texts,
        "boxes": Boxes,
        "map": Maps,
        "image": Pictures,
        "number": Numbers,
        "depth": Values,
    }
    few = split.take(torch.tensor([4, 1]))
    assert few["text"].values == ("a 4", "a 1")
    assert few["number"].values.tolist() == [[8, 9], [2, 3]]
    assert few["number"].names == ("number1", "number2")
    assert torch.equal(few["depth"].values, split["depth"].values[[4, 1]])
    assert (len(few), few.labels.tolist(), few.value("nothing")) == (2, [1, 1], None)
    with pytest.raises(UsageError, match="a row for each of 6 samples, and text has 2"):
        split.with_columns({"text": ["a", "b"]})


def test_mirroring_a_column_and_mirroring_its_encoding_agree():
    """The rule of a column and the rule of the condition that reads it, for every kind."""
    split = everything()
    kinds = {
        "class": ClassCondition("abc", 4),
        "text": TextCondition(4),
        "layout": LayoutCondition("abc", 1, (8, 8), (8, 8), 4),
        "map": MapCondition("abc", (8, 8), (8, 8), 4),
        "image": ImageCondition((1, 8, 8), (8, 8), (8, 8), True),
        "number": NumberCondition(("a", "b"), (0, 0), (1, 1), 4),
    }
    conditioner = Conditioner(kinds)
    conditioner.fit(split.columns)
    rows = torch.arange(len(split)) % 2 == 0
    before = conditioner.mirror(conditioner.columns(split.columns), rows)
    after = conditioner.columns(split.mirror(rows).columns)
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(before[name], after[name])
    assert conditioner.sources == {"class", "text", "boxes", "map", "image", "number"}


def test_what_goes_with_images_is_resized_with_them():
    """8x8 to 4x4: boxes are halved, maps keep whole numbers, the rest stays."""
    data = an.load_data(
        {**{name: everything(40)[name] for name in ("text", "map", "boxes", "image")}, "x": everything(40).array}
    )
    small = load(data, size=4)
    assert small.spec.shape == (1, 4, 4)
    assert (small.spec.box_classes, small.spec.map_classes) == (data.spec.box_classes, data.spec.map_classes)
    assert small.train.boxes[0][0, 1:].tolist() == [0, 1, 2, 3]
    assert small.train.paired.shape[1:] == (1, 4, 4)
    assert set(small.train.maps.unique().tolist()) <= {0, 1, 2, 3}
    assert torch.equal(small.train.maps, data.train.maps[:, ::2, ::2]) or torch.equal(
        small.train.maps, data.train.maps[:, 1::2, 1::2]
    )
    assert small.train.captions == data.train.captions


def test_a_box_follows_its_image():
    assert fit_box((0, 0, 10, 10), (10, 20), (10, 10)) == (0, 0, 5, 10)
    assert fit_box((0, 0, 2, 2), (10, 20), (10, 10)) is None


@pytest.mark.parametrize(
    ("source", "digits", "sizes"),
    [
        ("digits", "4acacb929ce6dd5658b94d5736d95a71", (1618, 179)),
        ("moons", "a8c6ecbfaa679b497ab12ddd837c6319", (20_000, 2000)),
        ("scenes", "ab237af80fa63c286b6edd7a725e7f08", (10_000, 1000)),
    ],
)
def test_fingerprints_are_those_of_earlier_versions(source, digits, sizes):
    """Runs are continued by them. These were printed before data were named columns."""
    data = load(source)
    assert data.spec.fingerprint == data.fingerprint == digits
    assert (len(data.train), len(data.test)) == sizes


def test_a_run_also_knows_the_numbers_that_it_reads():
    """Numbers change nothing for a run that does not read them, so one begun before they were read can be continued."""
    x = np.random.RandomState(0).normal(size=(40, 2))
    plain, one, two = load(x), *(load({"x": x, "number": np.arange(40.0) * k}) for k in (1, 2))
    assert plain.spec.fingerprint == one.spec.fingerprint == two.spec.fingerprint
    conditioner = Conditioner({"number": NumberCondition(("number",), one.spec.number_mean, one.spec.number_std, 4)})
    prints = {plain.fingerprint, *(data.encoded(conditioner).fingerprint for data in (one, two))}
    assert len(prints) == 3
    assert one.encoded(conditioner).fingerprint == one.encoded(conditioner).fingerprint


def test_a_description_of_an_earlier_version_is_read():
    spec = load({"x": np.zeros((20, 2)) + np.arange(20)[:, None], "a": np.arange(20.0), "depth": np.zeros((20, 2, 3))}).spec
    assert (spec.numbers, spec.columns) == (("a",), (("a", ()), ("depth", (2, 3))))
    values = json.loads(json.dumps(spec.to_json()))
    assert DataSpec.from_json(values) == spec
    old = {name: value for name, value in values.items() if "number" not in name and name != "columns"}
    assert DataSpec.from_json(old).numbers == ()


def test_mean_and_deviation_are_over_what_is_known():
    number = np.array([[1.0, 5, np.nan], [3, 5, np.nan]] * 20)
    spec = load({"x": np.arange(80.0).reshape(40, 2), "number": number, "number_names": ("a", "b", "c")}).spec
    assert spec.numbers == ("a", "b", "c")
    assert spec.number_mean == pytest.approx((2, 5, 0), abs=0.2)
    assert spec.number_std == pytest.approx((1, 1, 1), abs=0.05)


# Sources.


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_metadata_of_a_folder(tmp_path, picture, kind):
    rows = []
    for i in range(12):
        picture(tmp_path / "set" / f"{i}.png", i)
        known = {"file_name": f"{i}.png", "text": "a", "angle": i * 10, "size": i / 2, "id": i, "by": "me", "label": i % 2}
        rows.append(known | ({"size": "" if kind == "csv" else None} if i == 3 else {}))
    with (tmp_path / "set" / f"metadata.{kind}").open("w", newline="") as file:
        if kind == "jsonl":
            file.write("\n".join(map(json.dumps, rows)))
        else:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    data = load(tmp_path / "set")
    assert data.spec.numbers == ("angle", "size")
    assert "2 numbers per sample: angle, size" in data.notes
    assert f"columns of metadata.{kind} not used: by, id" in data.notes
    assert f"classes from the column label of metadata.{kind}: 0, 1" in data.notes
    for part in (data.train, data.test):
        for x, (angle, size) in zip(part.array[:, 0, 0, 0].tolist(), part["number"].values.tolist(), strict=True):
            assert angle == x * 10
            assert np.isnan(size) if x == 3 else size == x / 2


def test_arrays_of_a_file(tmp_path):
    n, random = 30, np.random.RandomState(0)
    x = random.normal(size=(n, 3))
    depth = random.normal(size=(n, 4, 4))
    np.savez(
        tmp_path / "a.npz", x=x, angle=x[:, 0], pose=x[:, 1:], depth=depth, who=["me"] * n, count=np.arange(n), odd=np.ones(3)
    )
    data = load(tmp_path / "a.npz")
    assert data.spec.numbers == ("angle", "pose1", "pose2")
    assert torch.equal(data.train["number"].values, data.train.array)
    assert "3 numbers per sample: angle, pose1, pose2" in data.notes
    assert "further columns, for conditions that read them: angle, count, depth, pose, who" in data.notes
    assert "arrays not used: odd" in data.notes
    assert data.train["depth"].values.shape[1:] == (4, 4)
    np.savez(tmp_path / "b.npz", x=x, number=x[:, :2], number_names=["u", "v"], angle=x[:, 0])
    assert load(tmp_path / "b.npz").spec.numbers == ("u", "v")
    np.savez(tmp_path / "c.npz", x=x, x_test=x, number=x[:, 0], number_test=x[:, 0])
    data = load(tmp_path / "c.npz")
    assert torch.equal(data.test["number"].values[:, 0], data.test.array[:, 0])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"number": np.ones(3)}, "has 20 samples and 3 number: one per sample is needed"),
        ({"number": np.array([np.inf] * 20)}, "infinite at index 0"),
        ({"number": np.array(["a"] * 20)}, "must be numbers"),
        ({"number": np.ones((20, 2)), "number_names": ("a",)}, "2 numbers per sample and 1 names"),
    ],
)
def test_numbers_that_do_not_fit(columns, message):
    with pytest.raises(DataError, match=message):
        load({"x": np.arange(40.0).reshape(20, 2), **columns})


def test_columns_of_a_table(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = {"x": [[i, -i] for i in range(20)], "angle": [None, *range(1, 20)], "label": [0, 1] * 10, "row": list(range(20))}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet")
    assert data.spec.numbers == ("angle",)
    assert {"1 number per sample: angle", "columns not used: row"} <= set(data.notes)
    both = torch.cat([data.train["number"].values, data.test["number"].values])
    assert int(both.isnan().sum()) == 1


def test_columns_need_samples():
    with pytest.raises(DataError, match=r"^the columns hold no samples: expected one named x, found number$"):
        load({"number": np.ones(3)})


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, i):
        return {"x": torch.full((2,), float(i)), "angle": i / 2, "text": f"a {i}", "depth": torch.full((3, 3), i)}


def test_a_data_set_of_torch_gives_its_columns():
    data = load(Rows())
    assert data.spec.numbers == ("angle",)
    assert (data.spec.captions, dict(data.spec.columns)) == (18, {"angle": (), "depth": (3, 3)})
    assert torch.equal(2 * data.train["number"].values, data.train.array[:, :1])
    assert data.train.captions[3] == f"a {int(data.train.array[3, 0])}"
    loaded = load(torch.utils.data.DataLoader(Rows(), batch_size=6))
    assert loaded.spec == data.spec


def test_columns_may_be_given_as_they_are_in_a_split():
    split = everything(20)
    data = load({name: split[name] for name in split})
    assert sorted(data.train) == sorted(split)
    assert len(data.train) + len(data.test) == 20


# A condition of one's own.


class DepthCondition(Condition):
    """A profile `(n, 5)` -> a vector, by one layer."""

    source = "depth"

    def __init__(self, width):
        super().__init__()
        self.layer, self.null = torch.nn.Linear(5, width), torch.nn.Parameter(torch.zeros(width))
        self.widths = ContextShape(vector=width)

    def column(self, values):
        return values

    def parse(self, value, n):
        return torch.as_tensor(value).expand(n, 5)

    def mirror(self, raw):
        return raw.flip(-1)

    def forward(self, raw, n, drop=None):
        vector = self.null.expand(n, -1) if raw is None else self.layer(raw)
        return Context(vector=vector if drop is None else torch.where(drop[:, None], self.null, vector))


def test_a_condition_reads_the_column_of_its_source(tmp_path):
    """No file of the package is touched: the array of a file reaches the batches, mirrored by the condition's rule."""
    random = np.random.RandomState(0)
    x, depth = random.randint(0, 256, (30, 8, 8), dtype=np.uint8), random.normal(size=(30, 5)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, depth=depth)
    data = load(tmp_path / "a.npz")
    assert dict(data.spec.columns) == {"depth": (5,)}
    conditioner = Conditioner({"depth": DepthCondition(4)})
    conditioner.fit(data.train.columns)
    held, index = data.encoded(conditioner), torch.tensor([2, 0])
    batch = held.batch(index, flip=torch.tensor([True, False]))
    known = data.column("depth")[index]
    assert torch.equal(batch.conditions["depth"], torch.stack([known[0].flip(0), known[1]]))
    assert conditioner(batch.conditions, 2).vector.shape == (2, 4)
    assert torch.equal(held.asked(index)["depth"], data.column("depth", "test")[index])
    assert held.fingerprint != data.fingerprint
    with pytest.raises(UsageError, match="these data have no depth to condition on"):
        load("digits").encoded(conditioner)


def test_number_class_and_image_at_once(tmp_path):
    random = np.random.RandomState(0)
    x = random.randint(0, 256, (40, 8, 8), dtype=np.uint8)
    data = {"x": x, "image": 255 - x[:, None], "class": np.arange(40) % 2, "angle": random.normal(size=40)}
    kinds = ("number", "class", "image")
    settings = ("train.batch=8", "train.previews=1")
    model = an.train(data, budget="2it", out=tmp_path / "run", condition=kinds, quiet=True, settings=settings, device="cpu")
    asked = {"number": {"angle": 0.3}, "class": "1", "image": torch.rand(1, 8, 8)}
    assert model.sample(2, seeds=[0, 1], steps=2, condition=asked).shape == (2, 1, 8, 8)
    again = an.load(tmp_path / "run", device="cpu")
    assert torch.equal(again.conditioner.kinds["number"].mean, model.conditioner.kinds["number"].mean)
    data["angle"] = data["angle"] + 1
    with pytest.raises(AncestralError, match="have changed since it began"):
        an.train(data, budget="2it", out=tmp_path / "run", condition=kinds, quiet=True, settings=settings, device="cpu")
    with pytest.raises(UsageError, match="no numbers to condition on: leave --condition number out"):
        an.train("moons", budget="1it", out=tmp_path / "none", condition="number", quiet=True)


def test_a_registered_kind_trains_on_the_array_of_that_name(tmp_path, registered):
    """One class and one function outside the package: it is trained, sampled and loaded by its name."""

    @an.register("condition", "depth-test", "a profile of depths")
    def depth(spec, space, **options):
        assert dict(spec.columns)["depth"] == (5,)
        return DepthCondition(128)

    random = np.random.RandomState(0)
    np.savez(tmp_path / "a.npz", x=random.normal(size=(30, 2)), depth=random.normal(size=(30, 5)), y=np.arange(30) % 2)
    kinds, settings = ("depth-test", "class"), ("train.previews=1",)
    model = an.train(tmp_path / "a.npz", budget="2it", out=tmp_path / "run", condition=kinds, quiet=True, settings=settings)
    asked = {"depth-test": torch.ones(5), "class": "1"}
    expected = model.sample(2, asked, seeds=[0, 1], steps=2)
    again = an.load(tmp_path / "run").sample(2, asked, seeds=[0, 1], steps=2)
    torch.testing.assert_close(again, expected)
