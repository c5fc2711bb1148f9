"""Tar shards in WebDataset's naming: found, indexed once, and read where they lie."""

import io
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from ancestral.app.data import DataError, load, shards
from ancestral.app.data.shards import expanded, short_name
from ancestral.app.data.sources import exists, name_of
from ancestral.app.data.streamed import Streamed
from ancestral.errors import UsageError


def png(i, size=(8, 8), mode="L", kind="PNG"):
    pixels = np.random.RandomState(i).randint(256, size=(size[1], size[0], 3), dtype=np.uint8)
    pixels[0, 0] = i % 256
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def shard(path, members):
    """Write a tar file of (name, content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def write(folder, shards_=4, each=25, beside=lambda i: [("cls", str(i % 3))], name="part-{:03}.tar"):
    for s in range(shards_):
        rows = range(s * each, (s + 1) * each)
        members = [(f"{i:04}.png", png(i)) for i in rows]
        small = [(f"{i:04}.{kind}", said.encode()) for i in rows for kind, said in beside(i)]
        shard(folder / name.format(s), sorted(members + small))
    return folder


def pixels(i):
    return np.array(Image.open(io.BytesIO(png(i))))


def everything(data):
    """All samples, with their labels, in the order of the shards."""
    found = {}
    for split in ("train", "test"):
        part = data.part(split)
        x, labels = part["x"].gather(torch.arange(len(part))).values, data.labels(split)
        rows = part["x"].selection.rows(np.arange(len(part)))
        found |= {row: (x[i], labels[i]) for i, row in enumerate(rows.tolist())}
    assert sorted(found) == list(range(len(found)))
    return torch.stack([found[i][0] for i in range(len(found))]), torch.stack([found[i][1] for i in range(len(found))])


@pytest.mark.parametrize("source", ["set/part-*.tar", "set/part-{000..003}.tar", "set/part-{000,001,002,003}.tar", "set"])
def test_every_sample_of_the_shards_is_there_with_its_class(tmp_path, source):
    write(tmp_path / "set")
    data = load(str(tmp_path / source))
    x, labels = everything(data)
    assert torch.equal(x, torch.from_numpy(np.stack([pixels(i)[None] for i in range(100)])))
    assert labels.tolist() == [i % 3 for i in range(100)]
    assert data.spec.name == ("set" if source == "set" else "part")
    assert data.spec.classes == ("0", "1", "2")
    assert (data.spec.levels, data.spec.shape, data.spec.size) == (256, (1, 8, 8), 80)
    assert data.notes[0] == "100 samples in 4 tar shards in 3 classes"
    assert "held out 20 of 100 samples, every 5th" in data.notes
    assert isinstance(data.train["x"], Streamed)
    assert data.spec.mean == pytest.approx([data.x("train").mean().item()], abs=1e-6)


def test_one_shard_is_a_source_too(tmp_path):
    write(tmp_path)
    data = load(tmp_path / "part-001.tar")
    assert torch.equal(everything(data)[0][7, 0], torch.from_numpy(pixels(32)))


def test_captions_numbers_and_names_of_classes(tmp_path):
    def beside(i):
        told = {"angle": i / 2, "id": i, "flag": True, "label": "cat" if i % 2 else "dog", "caption": f"json {i}"}
        return [("json", json.dumps(told))] + ([("txt", f" text {i}\n")] if i % 5 == 0 else [])

    data = load(str(write(tmp_path, beside=beside) / "*.tar"))
    rows = data.train["x"].selection.rows(np.arange(80))
    assert data.train.captions == tuple(f"text {i}" if i % 5 == 0 else f"json {i}" for i in rows.tolist())
    assert data.spec.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [1 - i % 2 for i in rows.tolist()]
    assert data.spec.numbers == ("angle", "flag")
    assert torch.equal(
        data.train["number"].gather(torch.tensor([3])).values, torch.tensor([[rows[3] / 2, 1.0]], dtype=torch.float)
    )
    assert data.spec.captions == 80
    assert "100 captions, 0 without" in data.notes[0]
    assert data.spec.number_mean == pytest.approx((rows.mean() / 2, 1.0))


def test_arrays_keep_their_values(tmp_path):
    x = np.random.RandomState(0).normal(size=(20, 5, 40)).astype(np.float32)
    shard(tmp_path / "a.tar", [(f"{i:02}.npy", npy(row)) for i, row in enumerate(x)])
    data = load(str(tmp_path / "?.tar"))
    assert (data.spec.shape, data.spec.levels) == ((5, 40), None)
    assert torch.equal(data.batch(torch.arange(18)).x, torch.from_numpy(x[data.train["x"].selection.rows(np.arange(18))]))
    assert load(str(tmp_path / "?.tar"), axes="n l c").spec.shape == (40, 5)


def test_names_of_splits(tmp_path):
    write(tmp_path, 3, name="train-{}.tar")
    write(tmp_path, 1, name="val-{}.tar")
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (75, 25)
    assert "held out 25 of 100 samples: those of the test or validation shards" in data.notes
    assert torch.equal(data.test["x"].gather(torch.tensor([3])).values[0, 0], torch.from_numpy(pixels(3)))
    assert torch.equal(data.order(0).at(0, 75).sort().values, torch.arange(75))
    assert data.train["x"].groups.tolist() == [0, 25, 50, 75]
    assert data.test["x"].groups.tolist() == [0, 25]


# order and prefetch


def test_an_epoch_has_each_sample_once_and_any_position_is_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("ancestral.app.data.order.BLOCK", 7)
    monkeypatch.setattr("ancestral.app.data.order.WINDOW", 3)
    data = load(write(tmp_path))
    n = len(data.train)
    whole = data.order(5).at(0, 3 * n)
    for epoch in range(3):
        assert torch.equal(whole[epoch * n : (epoch + 1) * n].sort().values, torch.arange(n))
    assert not torch.equal(whole[:n], whole[n : 2 * n])
    assert not torch.equal(whole[:n], data.order(6).at(0, n))
    for position, count in ((0, 1), (17, 40), (n - 3, 10), (2 * n + 5, 60), (21, 21)):
        assert torch.equal(data.order(5).at(position, count), whole[position : position + count])
    order = data.order(5)
    assert all(torch.equal(order.at(e * n + 3, 4), whole[e * n + 3 : e * n + 7]) for e in range(3))  # the same window
    assert ((whole[1:] - whole[:-1]) == 1).float().mean() < 0.5  # mixed within each
    backwards = [order.at(position, 10) for position in range(100, -10, -10)]
    assert torch.equal(torch.cat(backwards[::-1]), whole[:110])
    blocks = torch.tensor([len({*(row // 7 for row in whole[i : i + 15].tolist())}) for i in range(0, 60, 20)])
    assert (blocks <= 8).all()  # of at most two windows, with blocks of shards that do not end at multiples of 7


def test_decoding_happens_in_workers_and_prefetch_changes_no_result(tmp_path, monkeypatch):
    import threading

    data = load(write(tmp_path))
    index, threads, decode = torch.tensor([5, 79, 5, 33, 2, 71, 44, 9, 10, 11]), [], data.train["x"].source.form.decode
    expected = data.batch(index)
    data.train["x"]._ahead.clear()  # what was read for the statistics
    monkeypatch.setattr(
        type(data.train["x"].source.form),
        "decode",
        property(lambda _: lambda content: threads.append(threading.current_thread().name) or decode(content)),
        raising=False,
    )
    data.prefetch(index)
    data.prefetch(index[:4])  # a hint twice
    for task, _ in list(data.train["x"]._ahead.values()):
        task.result()
    assert len(threads) == 9
    found = data.batch(index)
    assert torch.equal(found.x, expected.x)
    assert torch.equal(found.conditions["class"], expected.conditions["class"])
    assert len(threads) == 9  # each row once
    assert all(name.startswith("ancestral-data") for name in threads)
    assert torch.equal(data.batch(index.flip(0)).x, expected.x.flip(0))
    assert len(threads) == 9  # nor again soon
    data.prefetch(torch.arange(80))
    data.prefetch(torch.arange(10), "test")
    assert torch.equal(data.batch(index).x, expected.x)


def test_hints_that_nobody_follows_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr("ancestral.app.data.streamed.AHEAD", 20 * 64)
    data = load(write(tmp_path))
    for start in range(0, 80, 10):
        data.prefetch(torch.arange(start, start + 10))
    assert len(data.train["x"]._ahead) == 20


# the index


def test_the_shards_are_indexed_once(tmp_path, monkeypatch, cache):
    write(tmp_path / "set")
    calls, samples = [], shards._samples
    monkeypatch.setattr(shards, "_samples", lambda path, trouble: calls.append(path.name) or samples(path, trouble))
    first, second = load(tmp_path / "set"), load(tmp_path / "set")
    assert calls == [f"part-{i:03}.tar" for i in range(4)]
    assert first.spec == second.spec
    assert first.notes == second.notes
    os.utime(tmp_path / "set" / "part-001.tar", (1, 1))
    assert load(tmp_path / "set").spec == first.spec
    assert len(calls) == 8
    shutil.copytree(tmp_path / "set", tmp_path / "moved")
    assert load(str(tmp_path / "moved" / "part-*.tar")).spec.fingerprint == first.spec.fingerprint
    for file in (cache / "shards").iterdir():
        file.write_bytes(file.read_bytes()[:-5])
    assert load(tmp_path / "set").spec == first.spec
    write(tmp_path / "set", beside=lambda i: [("cls", str(i % 3 if i else 2))])  # one class
    assert load(tmp_path / "set").spec.fingerprint != first.spec.fingerprint


# what is wrong


def test_what_cannot_be_used_is_counted(tmp_path):
    write(tmp_path)
    shard(
        tmp_path / "part-009.tar",
        [
            ("a.png", png(1)),
            ("a.jpg", png(1)),
            ("a.cls", b"2"),
            ("b.cls", b"1"),
            ("c.png", png(3)),
            ("c.cls", b"\xff"),
            ("c.json", b"{"),
            ("d.seg.png", png(4)),
            ("e.npy", npy(np.zeros((8, 8)))),
            (".hidden.png", b""),
            ("f.png", png(5)),
            ("f.cls", b"1"),
        ],
    )
    data = load(tmp_path)
    assert len(data.train) + len(data.test) == 103
    assert "1 member of the shards not used, a second sample of the same key: part-009.tar/a.jpg" in data.notes
    assert "1 member of the shards not used, without an image or array of the same key: part-009.tar/b" in data.notes
    assert "1 member of the shards not used, not UTF-8 text: part-009.tar/c.cls" in data.notes
    assert "1 member of the shards not used, not JSON: part-009.tar/c.json" in data.notes
    assert "1 member of the shards not used, of another kind: part-009.tar/d.seg.png" in data.notes
    assert "1 member of the shards not used, an array beside images: part-009.tar/e" in data.notes
    assert "no classes: 1 sample without one, e.g. part-009.tar/c" in data.notes
    assert data.spec.classes == ()


def test_a_damaged_image_is_replaced_by_the_next_and_said(tmp_path):
    write(tmp_path)
    rows = [(f"{i:04}.png", b"no image" if i in {300, 301} else png(i)) for i in range(300, 310)]
    shard(tmp_path / "part-009.tar", [*rows, *((f"{name[:4]}.cls", b"0") for name, _ in rows)])
    data = load(tmp_path)
    x, _ = everything(data)
    assert all(torch.equal(x[i, 0], torch.from_numpy(pixels(302))) for i in (100, 101, 102))
    note = data.train["x"].source.trouble[0]
    assert note == "2 samples of 5 shards of " + tmp_path.name + (
        " cannot be read, and the next was taken: number 100 (not an image), number 101 (not an image)"
    )
    assert note in data.notes  # both were in the sample for the statistics


def test_mixed_sizes_and_colours_become_one_form(tmp_path):
    rows = [(f"{i:02}.png", png(i, (20 + i, 30), "RGB" if i % 2 else "L")) for i in range(20)]
    data = load(shard(tmp_path / "a.tar", [*rows, ("x.jpg", png(7, (64, 64), "RGB", "JPEG"))]))
    assert data.spec.shape[0] == 3
    assert any(note.startswith("resized to ") for note in data.notes)
    assert "grey and coloured images: all become RGB (10 of 21 that were looked at are grey)" in data.notes
    assert load(tmp_path / "a.tar", size="16x24").spec.shape == (3, 16, 24)


def test_a_shard_that_ends_early_gives_what_it_has(tmp_path):
    write(tmp_path)
    whole = (tmp_path / "part-003.tar").read_bytes()
    (tmp_path / "part-003.tar").write_bytes(whole[: len(whole) // 2 + 700])
    data = load(tmp_path)
    assert 75 < len(data.train) + len(data.test) < 100
    assert any("part-003.tar" in note and ("cut off" in note or "damaged" in note) for note in data.notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tar", b"no tar" * 200, r"^the shard .*a\.tar is not a tar file: it is damaged or of another format$"),
        (
            "a.tar",
            b"\x1f\x8b" + bytes(600),
            r"a\.tar is compressed, and its samples must be found in place: unpack it to \.tar$",
        ),
        ("a.tar", bytes(10240), r"^1 shard of a hold 0 samples, and at least 2 are needed: members KEY\.png"),
    ],
)
def test_shards_that_cannot_be_used(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / name)


def test_a_pattern_without_files_and_a_shard_that_vanishes(tmp_path):
    with pytest.raises(UsageError, match=r"^no file fits the pattern '.*part-\*\.tar': looked in "):
        load(str(tmp_path / "part-*.tar"))
    data = load(write(tmp_path))
    data.train["x"]._ahead.clear()
    (tmp_path / "part-000.tar").rename(tmp_path / "away")
    with pytest.raises(DataError, match=r"^the shard .*part-000\.tar cannot be read \(No such file or directory\): restore"):
        data.batch(torch.arange(3))
    (tmp_path / "away").rename(tmp_path / "part-000.tar")
    assert torch.equal(data.batch(torch.arange(1)).x[0, 0] * 255, torch.from_numpy(pixels(0)).float())


def test_patterns(tmp_path):
    for name in ("b-01", "b-02", "c-1"):
        (tmp_path / f"{name}.tar").touch()
    names = [path.name for path in expanded(str(tmp_path / "{b-{01..03},c-?}.tar"))]
    assert names == ["b-01.tar", "b-02.tar", "c-1.tar"]
    assert [path.name for path in expanded(str(tmp_path / "b-{01..03}.tar"))] == ["b-01.tar", "b-02.tar"]
    assert expanded(str(tmp_path / "b-01.tar")) is None
    assert expanded(str(tmp_path)) is None
    assert exists(str(tmp_path / "b-*.tar"))
    assert not exists(str(tmp_path / "d-*.tar"))
    assert name_of("x/b-{00..99}.tar") == short_name("x/b-*.tar") == "b"
    assert name_of(str(tmp_path / "*.tar")) == tmp_path.name
    assert name_of("runs/b.tar") == "b"
