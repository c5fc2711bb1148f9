"""Data larger than memory stay in a mapped file, and give the samples that they would give in memory."""

import os

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from ancestral.app.data import DataError, load
from ancestral.app.data.cache import budget
from ancestral.app.data.streamed import Streamed, evenly
from ancestral.errors import UsageError


def folder_of(path, picture, n=100):
    for i in range(n):
        picture(path / "ab"[i % 2] / f"{i:03}.png", size=(8, 8))
    return path


def batches(data):
    return [
        (data.batch(torch.arange(len(data.part(s))), s).x, torch.zeros(1) if data.labels(s) is None else data.labels(s))
        for s in ("train", "test")
    ]


def same(one, other):
    return all(
        torch.equal(a, b)
        for mine, yours in zip(one, other, strict=True)
        for a, b in zip(mine, yours, strict=True)
        if a is not None
    )


def test_a_folder_gives_the_same_samples_from_the_map_as_from_memory(tmp_path, picture, cache, request):
    folder = folder_of(tmp_path / "set", picture)
    held = load(folder)
    (next((cache / "images").iterdir())).unlink()
    request.getfixturevalue("small_memory")
    first, second = load(folder), load(folder)  # decoded, and found in the cache
    for data in (first, second):
        assert isinstance(data.train["x"], Streamed)
        assert same(batches(data), batches(held))
        assert data.spec.shape == held.spec.shape
        assert data.spec.size == held.spec.size
    assert first.spec == second.spec
    assert first.notes == second.notes
    assert sorted(f.suffix for f in (cache / "images").iterdir()) == [".npy", ".npz"]
    assert torch.equal(data.order(3).at(50, 70), held.order(3).at(50, 70))


def test_statistics_of_a_map_are_those_of_a_sample(tmp_path, small_memory):
    x = np.random.RandomState(0).randint(256, size=(300, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    data = load(tmp_path / "x.npy")
    rows = data.train["x"].selection.chosen
    sample = x[rows[(np.arange(64) * len(rows) + len(rows) // 2) // 64]] / 255
    assert data.spec.mean == pytest.approx([sample.mean()])
    assert data.spec.std == pytest.approx([sample.std()])
    assert any("read on demand; mean, deviation and fingerprint are those of 64 evenly" in note for note in data.notes)
    assert data.train.streamed


def test_grey_colours_and_damaged_files_leave_the_map_in_order(tmp_path, picture, cache, request):
    for i in range(100):
        picture(tmp_path / f"{i:03}.png", (i, i, i), mode="RGB")
    (tmp_path / "000.png").write_bytes(b"no")
    for name in ("050.png", "070.png", "099.png"):
        whole = picture(tmp_path / name, mode="RGB").read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])  # the header can be read
    held = load(tmp_path)
    (next((cache / "images").iterdir())).unlink()
    request.getfixturevalue("small_memory")
    for _ in range(2):
        data = load(tmp_path)
        assert data.spec.shape == (1, 8, 8)
        assert same(batches(data), batches(held))
    assert not list((cache / "images").glob(".*"))


@pytest.mark.parametrize(
    "array",
    [
        np.random.RandomState(0).randint(256, size=(200, 8, 8, 3), dtype=np.uint8),
        np.random.RandomState(0).randint(2, size=(200, 8, 8), dtype=np.uint8) * 255,
        (np.random.RandomState(0).randint(256, size=(200, 8, 8)) / 255).astype(np.float32),
        np.random.RandomState(0).normal(size=(2000, 3)),
        np.random.RandomState(0).randint(9, size=(200, 8, 8)),
    ],
    ids=["channels last", "0 and 255", "k/255", "float64", "int64"],
)
def test_a_large_file_is_mapped_and_converted_batch_by_batch(tmp_path, array, request):
    np.save(tmp_path / "x.npy", array)
    held = load(tmp_path / "x.npy")
    request.getfixturevalue("small_memory")
    data = load(tmp_path / "x.npy")
    assert isinstance(data.train["x"], Streamed)
    assert (data.spec.shape, data.spec.levels) == (held.spec.shape, held.spec.levels)
    rows = torch.tensor([0, 5, 5, 60])
    assert len(data.train) + len(data.test) == len(held.train) + len(held.test)
    if len(data.train) == len(held.train):  # as many are held out
        assert torch.equal(data.batch(rows).x, held.batch(rows).x)
        assert data.batch(rows).x.dtype == held.batch(rows).x.dtype


def with_one_other_value(path, array, value):
    """Save an array with `value` in a row of training that is in no sample, and return the data."""
    np.save(path, array)
    trained = load(path).train["x"].selection.chosen
    sampled = {0, *evenly(500, 64).tolist(), *trained[evenly(len(trained), 64)].tolist()}
    array[next(row for row in trained.tolist() if row not in sampled), 0, 0] = value
    np.save(path, array)
    return load(path)


def test_values_that_the_sample_did_not_show_are_refused_when_they_are_read(tmp_path, small_memory):
    array = (np.random.RandomState(0).randint(256, size=(500, 8, 8)) / 255).astype(np.float32)
    data = with_one_other_value(tmp_path / "x.npy", array, 0.501)
    assert data.spec.levels == 256
    with pytest.raises(DataError, match=r"^the array holds values that do not fit the 256 levels .* as 0\.501: save"):
        data.batch(torch.arange(len(data.train)))


@pytest.mark.parametrize("top", [1, 255])
def test_bytes_are_binary_only_if_all_are(tmp_path, top, small_memory):
    array = np.random.RandomState(0).randint(2, size=(500, 8, 8), dtype=np.uint8) * np.uint8(top)
    np.save(tmp_path / "binary.npy", array)
    assert load(tmp_path / "binary.npy").spec.levels == 2
    data = with_one_other_value(tmp_path / "x.npy", array, 7)
    assert data.spec.levels == 256
    assert (data.batch(torch.arange(len(data.train))).x * 255).max() == pytest.approx(max(top, 7))


def test_a_resized_map_stays_a_map(tmp_path, request):
    array = np.random.RandomState(0).randint(2, size=(200, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", array)
    held = load(tmp_path / "x.npy", size=4)
    request.getfixturevalue("small_memory")
    data = load(tmp_path / "x.npy", size=4)
    assert isinstance(data.train["x"], Streamed)
    rows = torch.tensor([3, 1, 170])
    assert torch.equal(data.batch(rows).x, held.batch(rows).x)
    assert data.spec.shape == (1, 4, 4)


def test_what_is_too_large_is_never_held(tmp_path, small_memory):
    np.save(tmp_path / "x.npy", np.random.RandomState(0).randint(256, size=(300, 8, 8), dtype=np.uint8))
    data = load(tmp_path / "x.npy")
    with pytest.raises(DataError, match=r"^270 samples .* are read on demand and do not fit into memory at once: use"):
        data.x("train")
    part = data.sampled
    assert len(part.train) == 20
    assert not part.train.streamed
    assert "20 of 270 training samples, evenly spread, stand for all in comparisons" in part.notes
    assert part.x("train").shape == (20, 1, 8, 8)
    assert part.sampled is part


def test_parquet_is_decoded_into_the_map_one_row_group_at_a_time(tmp_path, picture, small_memory):
    folder = folder_of(tmp_path / "set", picture)
    files = sorted(folder.rglob("*.png"), key=lambda file: file.name)
    rows = {"image": [{"bytes": f.read_bytes(), "path": f.name} for f in files], "label": [f.parent.name for f in files]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "set.parquet", row_group_size=7)
    one, other = load(folder), load(tmp_path / "set.parquet")
    assert isinstance(other.train["x"], Streamed)
    everything = [torch.cat([d.batch(torch.arange(len(d.part(s))), s).x for s in ("train", "test")]) for d in (one, other)]
    assert torch.equal(*(x.flatten(1).sort(0).values for x in everything))
    assert load(tmp_path / "set.parquet").spec == other.spec


# the budget


def test_the_budget_deletes_what_was_used_longest_ago(tmp_path, picture, cache, monkeypatch, small_memory):
    for name in "abc":
        folder_of(tmp_path / name, picture)
    size = 100 * 64 + 2000
    monkeypatch.setenv("ANCESTRAL_CACHE_GB", str(2.5 * size / 1e9))
    load(tmp_path / "a"), load(tmp_path / "b")
    entries = {file.stem for file in (cache / "images").iterdir()}
    assert len(entries) == 2
    for file in (cache / "images").iterdir():
        os.utime(file, (1, 1))
    load(tmp_path / "a")  # used now, so b is the oldest
    load(tmp_path / "c")
    left = {file.stem for file in (cache / "images").iterdir()}
    assert len(left & entries) == 1
    calls = []
    monkeypatch.setattr("ancestral.app.data.decode_once.decode", lambda *_, **__: calls.append(1) or 1 / 0)
    load(tmp_path / "a")
    assert not calls


def test_what_exceeds_the_budget_is_held_in_memory_or_refused_in_a_sentence(tmp_path, picture, monkeypatch, small_memory):
    folder = folder_of(tmp_path / "set", picture)
    monkeypatch.setenv("ANCESTRAL_CACHE_GB", "0.000001")
    data = load(folder)
    note = next(note for note in data.notes if "not cached" in note)
    assert note.startswith("the decoded images are not cached: they need 0.0 GB, and decoded data may take 0.0 GB in ")
    assert "set ANCESTRAL_CACHE_GB to more gigabytes" in note
    assert not data.train.streamed
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("M", (), {"available": 10_000}))
    with pytest.raises(
        DataError, match=r"what is free\): use fewer images, or set .*; on the disk they need.*set ANCESTRAL_CACHE_GB"
    ):
        load(folder)
    monkeypatch.setenv("ANCESTRAL_CACHE_GB", "much")
    with pytest.raises(UsageError, match=r"^ANCESTRAL_CACHE_GB must be a number of gigabytes, e\.g\. 50, found 'much'$"):
        load(folder)


def test_the_usual_budget_is_half_of_the_free_disk_and_what_is_there(cache, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("ancestral.app.data.cache.shutil.disk_usage", lambda _: usage)
    (cache / "images").mkdir()
    (cache / "images" / "a.npy").write_bytes(b"x" * 100)
    (cache / "images" / ".a.999999999.tmp").write_bytes(b"x" * 100)  # of a process that was killed
    assert budget() == 550
    assert not (cache / "images" / ".a.999999999.tmp").exists()
