"""Commands print to streams of every encoding."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ancestral.app.cli import main
from ancestral.app.cli.output import plain, print_everywhere
from ancestral.app.recipes.recipe import Recipe

SMALL = ["model.width=8", "model.blocks=1", "train.batch=16", "train.previews=0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "größe"
    with pytest.raises(SystemExit) as done:
        main(["train", "moons", "--for", "30it", *SMALL, "--out", str(folder), "-q"])
    assert done.value.code == 0
    return folder


def printed(monkeypatch, encoding, *words):
    """Run a command with streams of an encoding that raise for unknown characters; return the exit code and both texts."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(SystemExit) as done:
        main([str(word) for word in words])
    for stream in streams:
        stream.flush()
    return done.value.code, *(stream.buffer.getvalue().decode(encoding) for stream in streams)


@pytest.mark.parametrize(("encoding", "steps"), [("ascii", 32), ("cp1252", 34), ("utf-8", 36)])
def test_commands_print_in_every_encoding(run, monkeypatch, encoding, steps):
    code, out, _ = printed(monkeypatch, encoding, "info", run)
    assert code == 0
    assert ("█" if encoding == "utf-8" else "#") in out
    code, out, _ = printed(monkeypatch, encoding, "verify", "gan", "--explain")
    assert code == 0
    assert "gan.optimal-discriminator" in out
    code, _, error = printed(monkeypatch, encoding, "train", "moons", "--for", f"{steps}it", *SMALL, "--out", run)
    assert code == 0
    assert ("━" if encoding == "utf-8" else "#") * 24 in error
    code, out, _ = printed(monkeypatch, encoding, "info", run, "--json")
    assert json.loads(out)["run"] == str(run)
    code, _, error = printed(monkeypatch, encoding, "train", "no\udcffthing", "--for", "3it")
    assert code == 2
    assert r"no\udcffthing" in error


@pytest.mark.parametrize(
    ("character", "words"),
    [
        *(("±", "+-"), ("▁", "_"), ("█", "#"), ("α", "alpha"), ("Σ", "Sigma"), ("½", "1/2"), ("é", "e"), ("₀", "0")),
        ("\ud800", r"\ud800"),
    ],
)
def test_characters_in_ascii(character, words):
    assert plain(character) == words


def test_a_run_folder_has_a_name_in_utf_8(tmp_path, capsys):
    with pytest.raises(SystemExit) as done:
        main(["train", "moons", "--for", "3it", *SMALL, "--out", str(tmp_path / "mo\udcffns"), "-q"])
    assert done.value.code == 2
    assert "is not UTF-8: choose another with --out" in capsys.readouterr().err


def test_streams_that_cannot_change_are_left_alone():
    print_everywhere([io.StringIO()])


def test_a_recipe_with_any_path_is_read_again(tmp_path):
    file = tmp_path / "recipe.yaml"
    recipe = Recipe.of({"data": {"source": "bilder/größe\udcff"}, "train": {"budget": "1m"}})
    file.write_bytes(recipe.dump().encode())
    assert Recipe.load(file) == recipe
    file.write_bytes("data: {source: größe}\ntrain: {budget: 1m}\n".encode())
    assert Recipe.load(file).data.source == "größe"


def test_errors_print_names_as_they_are(monkeypatch, tmp_path):
    """Neither control characters nor the brackets of rich's markup mean anything."""
    (tmp_path / "metadata.jsonl").write_text("{}")
    place = tmp_path / "a\x1b[31m\nerror: forged [bold]b[/]\\[c"
    code, _, said = printed(monkeypatch, "utf-8", "train", place)
    assert code == 2
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    assert "\x1b" not in said
    assert "forged [bold]b[/]" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["--help"], 1, "no space left"), (["info", "nothing", "--json"], 2, "the run folder nothing does not exist")],
)
def test_a_full_disk_behind_standard_output_is_one_sentence(words, code, said):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        program = [sys.executable, "-m", "ancestral", *words]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {said}")
    assert len(done.stderr.splitlines()) == 1
