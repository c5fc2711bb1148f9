"""Temporary files of killed processes are removed, and nothing else."""

import os
import subprocess
import sys

import pytest

from ancestral.app.export.write import staged
from ancestral.app.leftovers import remove_leftovers
from ancestral.app.lock import locked


@pytest.fixture
def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_files_and_folders_of_ended_processes_are_removed(tmp_path, ended):
    (tmp_path / f".a.{ended}.tmp").write_bytes(b"part")
    (tmp_path / f".exported.{ended}.tmp" / "inner").mkdir(parents=True)
    kept = {f".b.{os.getpid()}.tmp", f".c.{'9' * 30}.tmp", f"d.{ended}.tmp", ".e.tmp"}
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    with locked(tmp_path):
        assert {file.name for file in tmp_path.iterdir()} == kept | {".lock"}


def test_a_link_to_a_folder_is_removed_without_its_content(tmp_path, ended):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"")
    (link := tmp_path / f".x.{ended}.tmp").symlink_to(tmp_path / "mine")
    remove_leftovers([link])
    assert not link.is_symlink()
    assert (tmp_path / "mine" / "file").exists()


def test_an_export_replaces_an_earlier_one_or_leaves_it(tmp_path, ended, monkeypatch):
    (target := tmp_path / "exported").mkdir()
    (target / "file").write_text("earlier")
    (tmp_path / f".exported.{ended}.tmp").mkdir()
    with pytest.raises(OSError, match="full"), staged(target) as place:
        (place / "file").write_text("new")
        rename = type(place).rename

        def full(self, to):
            if self == place:
                raise OSError(28, "full")
            return rename(self, to)

        monkeypatch.setattr(type(place), "rename", full)
    monkeypatch.undo()
    assert (target / "file").read_text() == "earlier"
    with staged(target) as place:
        (place / "file").write_text("new")
    assert (target / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]
