"""Decoded images are kept, found again, and never trusted when something changed."""

import errno
import os
from pathlib import Path

import pytest
import torch

from ancestral.app.data import cache as cache_module
from ancestral.app.data import decode_once, load
from ancestral.app.data.cache import cache_dir
from ancestral.files import write_atomically


@pytest.fixture
def images(tmp_path, picture):
    for i in range(6):
        picture(tmp_path / "set" / f"{i}.png", i)
    (tmp_path / "set" / "x.png").write_bytes(b"no")
    return tmp_path / "set"


@pytest.fixture
def decodings(monkeypatch):
    """A list that grows with every true decoding."""
    calls = []
    decode = decode_once.decode
    monkeypatch.setattr(decode_once, "decode", lambda *given, **how: calls.append(given) or decode(*given, **how))
    return calls


def kept(cache):
    return sorted((cache / "images").glob("*"))


def test_the_second_time_nothing_is_decoded(images, cache, decodings):
    first, second = load(images), load(images)
    assert len(decodings) == len(kept(cache)) == 1
    assert (second.spec, second.notes) == (first.spec, first.notes)
    assert any("x.png (not an image)" in note for note in second.notes)
    assert torch.equal(second.train.array, first.train.array)


def test_each_size_is_kept(images, cache, decodings):
    for size in (4, 6, 4, 6):
        assert load(images, size=size).spec.shape == (1, size, size)
    assert len(decodings) == len(kept(cache)) == 2


def test_changed_files_are_decoded_again_and_replace_what_was_kept(images, cache, decodings, picture):
    load(images)
    before = kept(cache)
    picture(images / "5.png", 99)
    os.utime(images / "5.png", ns=(1, 1))
    assert 99 in torch.cat([load(images).train.array, load(images).test.array])
    picture(images / "6.png", 1)
    load(images)
    assert len(decodings) == 3
    assert len(kept(cache)) == 1
    assert kept(cache) != before


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_a_damaged_cache_is_made_anew(images, cache, decodings, damage):
    load(images)
    file = kept(cache)[0]
    file.write_bytes(file.read_bytes()[:-200] if damage is None else damage)
    load(images)
    load(images)
    assert len(decodings) == 2


def test_what_may_be_readable_another_time_is_not_kept(images, cache, decodings):
    os.symlink(images / "missing", images / "y.png")
    notes = load(images).notes
    assert any("y.png (No such file or directory)" in note for note in notes)
    assert not (cache / "images").exists()


def test_a_full_disk_costs_a_note_not_the_work(images, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(decode_once, "write_atomically", full)
    data = load(images)
    assert data.spec.size == 5
    expected = f"the decoded images are not cached: {cache / 'images'} cannot be written"
    assert f"{expected} (No space left on device)" in data.notes


def test_a_file_is_whole_or_absent(tmp_path):
    def half(file):
        file.write(b"ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "new" / "file", half)
    assert not any((tmp_path / "new").iterdir())
    write_atomically(tmp_path / "new" / "file", lambda file: file.write(b"one"))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "new" / "file", half)
    assert [path.read_bytes() for path in (tmp_path / "new").iterdir()] == [b"one"]


def test_the_cache_lies_where_the_platform_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/a")
    monkeypatch.setenv("ANCESTRAL_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == tmp_path
    monkeypatch.delenv("ANCESTRAL_CACHE")
    assert cache_dir() == Path("/xdg/ancestral")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(cache_module.sys, "platform", "linux")
    assert cache_dir() == Path("/home/a/.cache/ancestral")
    monkeypatch.setattr(cache_module.sys, "platform", "darwin")
    assert cache_dir() == Path("/home/a/Library/Caches/ancestral")


def test_the_size_that_was_chosen_is_found_again_when_it_is_asked_for(tmp_path, cache, decodings, picture):
    """A continued run asks for the size with which it began."""
    for i in range(6):
        picture(tmp_path / "set" / f"{i}.png", size=(100, 80))
    first = load(tmp_path / "set")
    assert any(note.endswith("; choose another size with --size") for note in first.notes)
    second = load(tmp_path / "set", size=first.spec.shape[1:])
    assert len(decodings) == len(kept(cache)) == 1
    assert second.spec == first.spec
    assert not any("--size" in note for note in second.notes)
    load(tmp_path / "set", size=8)
    assert len(decodings) == 2
