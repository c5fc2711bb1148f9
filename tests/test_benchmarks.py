"""Benchmarks begin: each says what it does, and every name of ancestral that it imports, also within functions, exists."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
COMMANDS = [path for path in SCRIPTS if "__main__" in path.read_text()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_names_of_ancestral_exist(script):
    wanted = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ancestral"
        for alias in node.names
    ]
    for module, name in wanted:
        found = importlib.import_module(module)
        if not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.stem)
def test_each_explains_itself(script):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage:" in done.stdout


def test_the_overhead_of_the_loop_is_measured(monkeypatch, tmp_path):
    """The section of `speed.py` that pairs a bare step with the trainer's, on few pictures for a moment."""
    monkeypatch.syspath_prepend(str(FOLDER))
    peers = importlib.import_module("peers")
    entry = peers.Ancestral(peers.synthetic_images(64), 8, ("model.width=16",))
    whole, bare = entry.train(), entry.bare()
    for _ in range(2):
        next(whole)
        next(bare)
    assert entry.trainer.step == 2
    assert entry.sample(2, 1).shape == (2, *peers.SHAPE)
    entry._folder.cleanup()
    sys.modules.pop("peers")
