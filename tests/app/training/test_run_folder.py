"""The run folder: damage is named or repaired, one process writes at a time, and a folder that cannot be written is read."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file

import ancestral as an
from ancestral import files
from ancestral.app import lock, records
from ancestral.app.api import plan
from ancestral.app.data import toys
from ancestral.app.lock import locked
from ancestral.app.training import latents
from ancestral.app.training.run import Run
from ancestral.errors import AncestralError, DamageError, UsageError
from ancestral.files import write_atomically
from ancestral.weights import read_metadata, read_tensors, write_tensors

SMALL = ("model.width=16", "train.batch=16", "train.previews=0", "train.checkpoint_every=0.001")


def begin(out, *more, budget="6it", **options):
    return plan("moons", model="vae", budget=budget, out=out, device="cpu", settings=(*SMALL, *more), **options).begin()


@pytest.fixture(scope="module", autouse=True)
def _few_points():
    """The moons of all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toys, "TRAIN", 2000)
        patch.setattr(toys, "TEST", 400)
        yield


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of 6 steps that was stopped after 4, and what its model is in the end."""
    folder = tmp_path_factory.mktemp("stopped")
    trainer = begin(folder / "run")
    for step in trainer:
        if step.step == 4:
            break
    trainer.save()
    shutil.copytree(folder / "run", folder / "whole")
    list(begin(folder / "whole"))
    return folder / "run", load_file(folder / "whole" / "model" / "model.safetensors")


@pytest.fixture
def run(stopped, tmp_path):
    return Run(shutil.copytree(stopped[0], tmp_path / "run"))


def flipped(file, at, bit=1):
    content = bytearray(file.read_bytes())
    content[at] ^= bit
    file.write_bytes(content)


def continued(run, stopped, *sentences):
    """Continue to the end, and compare the weights with those of a run that was not damaged."""
    trainer = begin(run.path)
    for sentence in sentences:
        assert any(sentence in note for note in trainer.notes), trainer.notes
    list(trainer)
    expected = stopped[1]
    found = load_file(run.weights)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


# checksums


def test_every_byte_of_a_safetensors_file_is_checked(tmp_path):
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"w": torch.arange(3.0), "b": torch.ones(2, 1)}, {"numbers": '{"step": 3}', "run": "a"})
    sound = file.read_bytes()
    assert read_tensors(file, "")[1]["numbers"] == '{"step": 3}'
    for at in range(len(sound)):
        for bit in (1, 16):
            file.write_bytes(sound[:at] + bytes([sound[at] ^ bit]) + sound[at + 1 :])
            with pytest.raises(DamageError, match=r"a\.safetensors is damaged \(.*\): mend"):
                read_tensors(file, "mend")
    start = 8 + int.from_bytes(sound[:8], "little")
    file.write_bytes(sound[:start] + bytes(len(sound) - start))
    assert read_metadata(file, "")["run"] == "a"  # the header is sound
    for size in range(len(sound)):
        file.write_bytes(sound[:size])
        with pytest.raises(DamageError):
            read_tensors(file, "")


def test_a_file_without_checksums_is_read(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "old.safetensors", {"checksum": "x"})
    assert read_tensors(tmp_path / "old.safetensors", "")[1] == {"checksum": "x"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": 1,\n"b": \xff}', "line 2 has a byte that is not UTF-8"),
        (b'{"a": 1,\n"b": }', "line 2 is not JSON"),
        (b"[" * 100_000, "its values are nested too deep"),
        (b"null", "it has no names and values"),
        (b'{"checksum": "0", "key": "k", "costs": []}', "its content does not match its checksum"),
        (b'{"key": 1, "costs": []}', "key: input should be a valid string"),
        (b'{"key": "k"}', "costs: field required"),
        (b'{"key": "k", "costs": [], "more": 1}', "it has an unknown entry 'more'"),
    ],
)
def test_what_is_wrong_with_a_json_file_is_said(tmp_path, content, sentence):
    from ancestral.app.compare import _Costs

    file = tmp_path / "costs.json"
    file.write_bytes(content)
    with pytest.raises(DamageError, match=rf"costs\.json is damaged \({sentence}.*\): measure again"):
        records.read(file, _Costs, "measure again")
    records.write(file, {"key": "k", "costs": ()})
    assert records.read(file, _Costs, "") == _Costs("k", ())


@pytest.mark.parametrize("name", ["model/config.json", "model/model.safetensors"])
def test_a_damaged_model_is_named_and_written_again(run, stopped, name):
    file = run.path / name
    before = file.read_bytes()
    for at in random.Random(0).sample(range(len(before)), 20):
        file.write_bytes(before)
        flipped(file, at)
        if records_equal(file, before):
            continue  # white space
        with pytest.raises(AncestralError, match=f"{Path(name).name} is damaged"):
            run.load_model("cpu")
    continued(run, stopped, f"{Path(name).name} is damaged")
    run.load_model("cpu")


def records_equal(file, before):
    try:
        return file.suffix == ".json" and json.loads(file.read_bytes()) == json.loads(before)
    except ValueError:
        return False


def test_a_checkpoint_whose_numbers_were_changed_is_passed_over(run, stopped):
    newest = run.checkpoint_files()[-1]
    newest.write_bytes(newest.read_bytes().replace(b'\\"step\\": 4', b'\\"step\\": 3'))
    continued(run, stopped, f"{newest.name} is damaged; continuing from step-00000003.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"train: {lr: 3}"])
def test_a_damaged_recipe_is_written_again_from_a_checkpoint(run, stopped, content):
    before = run.recipe_file.read_bytes()
    if content is None:
        run.recipe_file.unlink()
    else:
        run.recipe_file.write_bytes(content)
        with pytest.raises(AncestralError, match=r"recipe\.yaml"):
            _ = run.recipe
    said = []
    run_id = plan("moons", out=run.path, device="cpu", reporter=Said(said)).run.id
    assert "it is written again from step-00000004.safetensors" in said[0]
    assert run.recipe_file.read_bytes() == before
    assert run_id is not None
    continued(run, stopped)


class Said(an.app.progress.Reporter):
    def __init__(self, said):
        super().__init__(quiet=True)
        self.said = said

    def say(self, text):
        self.said.append(text)


def test_a_changed_recipe_is_refused_by_readers(run):
    run.recipe_file.write_bytes(run.recipe_file.read_bytes().replace(b"batch: 16", b"batch: 17"))
    with pytest.raises(DamageError, match=r"recipe\.yaml is damaged or was changed"):
        _ = run.recipe


def test_files_of_another_run_are_refused(run, tmp_path):
    other = begin(tmp_path / "other", "train.seed=1")
    list(other)
    for file in (run.weights, run.config_file):
        before = file.read_bytes()
        shutil.copy(other.run.path / file.relative_to(run.path), file)
        with pytest.raises(DamageError, match=rf"{file.name} and recipe\.yaml are of different runs"):
            run.load_model("cpu")
        file.write_bytes(before)
    shutil.copy(other.run.metrics_file, run.metrics_file)
    rows, notes = run.measured()
    assert rows == []
    assert "damaged or of another run, and left out" in notes[0]
    for file in run.checkpoint_files():
        shutil.copy(other.run.checkpoint_files()[-1], file)
    with pytest.raises(DamageError, match=r"recipe\.yaml and the checkpoints in .* are of different runs"):
        run.load_checkpoint()


def test_damaged_and_lost_measurements_are_left_out_with_a_note(run, command):
    *lines, _ = run.metrics_file.read_bytes().split(b"\n")
    assert len(lines) >= 2
    first = json.loads(lines[0])
    for wrong in (b"null", b"\xff", lines[0].replace(b'"images": 16', b'"images": 17'), b'{"step": null}', b'{"a": 1}'):
        run.metrics_file.write_bytes(b"\n".join([wrong, *lines[1:], b""]))
        rows, notes = run.measured()
        assert [row["step"] for row in rows] == [json.loads(line)["step"] for line in lines[1:]]
        assert notes == [f"{run.metrics_file}: line 1 is damaged or of another run, and left out"]
    assert "line 1 is damaged" in " ".join(command("info", run.path).stdout.split())
    run.metrics_file.write_bytes(lines[0] + b"\n" + lines[1][:9])
    assert run.measured()[0] == [{k: v for k, v in first.items() if k != "check"}]
    assert f"{len(lines) - 1} of its lines" in run.measured()[1][0]


def test_a_run_of_an_earlier_version_gets_checksums_with_a_note(tmp_path):
    old = Path(__file__).parents[2] / "fixtures" / "format1" / "diffusion"
    run = Run(shutil.copytree(old, tmp_path / "run"))
    assert run.id is None
    trainer = plan(run.recipe.data.source, out=run.path, device="cpu").begin()
    assert "the files of this run were written by an earlier version, without complete checksums" in trainer.notes
    assert run.id is not None
    list(trainer)
    assert run.load_checkpoint().numbers["run"] == run.id


def test_damaged_latents_are_encoded_again_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "SLOW", -1.0)
    small = (
        "model.autoencoder.width=8",
        "model.prior.channels=[8]",
        "model.prior.blocks=1",
        "train.batch=8",
        "train.previews=0",
    )
    start = {"model": "latent", "out": tmp_path / "run", "device": "cpu", "settings": small}
    list(plan("digits", budget="4it", **start).begin())
    file = tmp_path / "run" / latents.KEPT
    before = load(file.read_bytes())
    flipped(file, -5)
    trainer = plan("digits", budget="6it", **start).begin()
    assert any("latents.safetensors is damaged" in note and "encoded again" in note for note in trainer.notes)
    assert all(torch.equal(load_file(file)[name], value) for name, value in before.items())


def test_damaged_samples_of_an_evaluation_are_drawn_again(run, command):
    words = ["evaluate", run.path, "-n", 64, "--device", "cpu", "--json"]
    first = json.loads(command(*words).stdout)
    (part,) = (run.path / "evaluation").rglob("part-*")
    sound = load(part.read_bytes())["x"]
    flipped(part, -5)
    second = json.loads(command(*words).stdout)
    assert any("its samples are drawn again" in note for note in second["notes"])
    assert second["metrics"] == first["metrics"]
    assert torch.equal(load_file(part)["x"], sound)


# the lock

HOLD = """
import sys
from pathlib import Path
from ancestral.app.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def held(run):
    """A process that has the lock of the run."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_one_process_writes_into_a_run_and_readers_go_on(run, held, command, tmp_path):
    sentence = rf"in use by process {held.pid} on \S+, started at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d: wait until it ends"
    for words in (["train", "moons", "--out", run.path], ["evaluate", run.path, "-n", 64]):
        done = command(*words, "--device", "cpu")
        assert done.returncode == 2
        assert re.search(sentence, done.stderr), done.stderr
    for refused in (lambda: an.compare([run.path, run.path], n=64), lambda: an.train("moons", out=run.path, quiet=True)):
        with pytest.raises(UsageError, match=sentence):
            refused()
    assert command("info", run.path).returncode == 0
    done = command("report", run.path, "-n", 64, "--device", "cpu")
    assert done.returncode == 0
    assert "the report is of its present weights, and its samples are not stored" in done.stderr
    assert (run.path / "report.html").exists()
    assert not (run.path / "evaluation").exists()
    assert command("sample", run.path, "-n", 2, "--out", tmp_path / "x.npz", "--device", "cpu").returncode == 0
    held.kill()  # the system releases the lock
    held.wait()
    assert (run.path / lock.FILE).exists()
    with locked(run.path):
        assert json.loads((run.path / lock.FILE).read_text())["pid"] == os.getpid()
    assert not (run.path / lock.FILE).exists()


def test_a_new_folder_in_which_nothing_was_written_is_removed_and_no_other(tmp_path):
    empty, used, old = tmp_path / "runs" / "empty", tmp_path / "runs" / "used", tmp_path / "old"
    old.mkdir()
    for folder in (empty, used, old):
        with locked(folder):
            assert (folder / lock.FILE).exists()
            if folder == used:
                (used / "x").write_text("x")
    assert (empty.exists(), used.exists(), old.exists()) == (False, True, True)


def test_a_thread_may_take_its_lock_again_and_another_may_not(tmp_path):
    failures = []

    def other():
        try:
            with locked(tmp_path):
                pass
        except UsageError as error:
            failures.append(str(error))

    with locked(tmp_path), locked(tmp_path / "." / ""):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"in use by process {os.getpid()}" in failures[0]
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("owner", "lives"),
    [
        ({}, True),
        ({"host": "another"}, True),
        ({"pid": 2**22 + 1}, False),  # no process has this number
        ({"born": "x/1"}, False),  # another process has the number now, or the machine was started anew
        ({"started": 5.0}, True),  # the clock was set since
    ],
)
def test_without_locks_of_the_file_system_the_owner_decides(tmp_path, monkeypatch, owner, lives):
    monkeypatch.setattr(lock, "_lock", lambda opened: False)
    (tmp_path / lock.FILE).write_text(json.dumps(lock._owner() | owner))
    if lives:
        with pytest.raises(UsageError, match="is in use by process"), locked(tmp_path):
            pass
    else:
        with locked(tmp_path):
            pass
    far = json.dumps({"pid": 1, "host": "another", "started": 1e300})
    for content in ("", "null", '{"pid": "x"}', "[" * 5000, far):
        (tmp_path / lock.FILE).write_text(content)
        with locked(tmp_path):
            pass


def test_leftovers_of_ended_processes_are_removed(run):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leftover = run.model / f".model.safetensors.{ended.pid}.tmp"
    current, another = run.model / f".model.safetensors.{os.getpid()}.tmp", run.path / ".my.tmp"
    for file in (leftover, current, another):
        file.write_bytes(b"part")
    with locked(run.path):
        assert not leftover.exists()
        assert current.exists()
        assert another.exists()


# the disk


def test_the_folder_is_forced_to_disk_after_the_rename(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(files.os, "replace", lambda a, b, r=os.replace: (r(a, b), done.append("renamed")))
    monkeypatch.setattr(files, "_sync", done.append)
    write_atomically(tmp_path / "new" / "folder" / "a", b"a")
    assert done == ["renamed", tmp_path / "new" / "folder", tmp_path / "new", tmp_path]
    done.clear()
    write_atomically(tmp_path / "new" / "folder" / "a", b"b")
    assert done == ["renamed", tmp_path / "new" / "folder"]


@pytest.fixture
def read_only(run, monkeypatch):
    """The run, in which nothing can be opened for writing. A test as root cannot take the right away otherwise."""
    true_open, true_system_open, true_mkdir = io_open, os.open, os.mkdir
    place = os.path.realpath(run.path)

    def inside(path):
        return isinstance(path, str | os.PathLike) and os.path.realpath(path).startswith(place + os.sep)

    def refuse(path):
        raise OSError(30, "Read-only file system", str(path))

    def opened(file, mode="r", *args, **kwargs):
        return refuse(file) if inside(file) and set(mode) & set("wax+") else true_open(file, mode, *args, **kwargs)

    def system_opened(path, flags, *args, **kwargs):
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return refuse(path) if inside(path) and writes else true_system_open(path, flags, *args, **kwargs)

    monkeypatch.setattr("builtins.open", opened)
    monkeypatch.setattr("io.open", opened)
    monkeypatch.setattr(os, "open", system_opened)
    monkeypatch.setattr(os, "mkdir", lambda path, *a, **k: refuse(path) if inside(path) else true_mkdir(path, *a, **k))
    return run


io_open = open


def test_a_run_that_cannot_be_written_is_sampled_evaluated_and_reported(read_only, command, tmp_path):
    run, names = read_only, sorted(str(f) for f in read_only.path.rglob("*"))
    words = ["--device", "cpu", "-q", "--out"]
    assert command("sample", run.path, "-n", 2, *words, tmp_path / "x.npz").returncode == 0
    assert command("evaluate", run.path, "-n", 64, *words, tmp_path / "e.json").returncode == 0
    assert command("report", run.path, "-n", 64, *words, tmp_path / "r.html").returncode == 0
    assert (tmp_path / "r.html").is_file()
    assert json.loads((tmp_path / "e.json").read_text())["n"] == 64
    assert sorted(str(f) for f in run.path.rglob("*")) == names
    refused = command("evaluate", run.path, "-n", 64, "--device", "cpu")
    assert refused.returncode == 1
    assert "read-only file system" in refused.stderr
    assert command("train", "moons", "--out", run.path, "--device", "cpu").returncode == 1
