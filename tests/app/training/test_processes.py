"""Several processes train one model: stops, restarts and failures, and the same result whatever their number."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import ancestral as an
from ancestral.app.processes import Processes
from ancestral.app.training.run import Run
from ancestral.app.training.strategies.replicated import Replicated
from ancestral.errors import UsageError

SMALL = ("train.previews=1", "model.channels=[8, 8]", "train.precision=fp32")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
ENVIRONMENT |= {"PYTHONPATH": str(Path(an.__file__).parents[1])}


def launch(count, *arguments, options=()):
    """Run this file in several processes, by torchrun."""
    run = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", *options, __file__)
    return subprocess.run(
        [*run, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False
    )


def ancestral(*arguments):
    return [sys.executable, "-m", "ancestral", *map(str, arguments)]


def part(folder, stop):
    """Train until the step `stop`. The last process is asked to stop by a signal, after the step before."""

    def look(step):
        if step.step == stop - 1 and int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        an.train("digits", budget="100it", out=folder, settings=SMALL, device="cpu", quiet=True, callbacks=[look])
    except KeyboardInterrupt as stopped:
        print(f"[{stopped}]", flush=True)


@pytest.mark.long
def test_a_run_may_change_its_number_of_processes(tmp_path, capsys):
    """100 steps of AdamW with 1, 2, 1 and 3 processes against those of one. A signal to one process stops all at one step."""
    part(tmp_path / "whole", 1000)
    part(tmp_path / "run", 20)
    done = [launch(2, "part", tmp_path / "run", 50)]
    part(tmp_path / "run", 75)
    done.append(launch(3, "part", tmp_path / "run", 1000))
    assert [process.returncode for process in done] == [0, 0], done[0].stderr + done[1].stderr
    assert re.findall(r"at step (\d+)", capsys.readouterr().out + done[0].stdout) == ["20", "75", "50", "50"]
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    losses = [[row["model/total"] for row in r.metrics() if row["step"] == 100] for r in (whole, run)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert len(losses[1]) == 1  # one process writes
    a, b = (r.load_model("cpu").sample(64, seeds=range(64)).mul(16).round() for r in (whole, run))
    assert (a == b).float().mean() >= 0.999
    assert (whole.samples / "step-00000100.png").exists()
    assert (run.samples / "step-00000100.png").exists()


@pytest.mark.long
def test_if_a_process_is_killed_the_others_end_with_a_sentence_and_the_run_continues(tmp_path):
    run = tmp_path / "run"
    often = "train.checkpoint_every=0.5"
    command = ancestral("train", "digits", "--for", "100000it", "--out", run, "--nproc", "2", often, *SMALL)
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as launcher:
        deadline = time.monotonic() + 100
        while not list((run / "checkpoints").glob("*.safetensors")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text(encoding="ascii").split()
        os.kill(int(children[-1]), signal.SIGKILL)
        killed = time.monotonic()
        _, said = launcher.communicate(timeout=100)
    assert time.monotonic() - killed < 60
    assert launcher.returncode == 1
    assert "process 1 of 2 was killed by signal 9" in said
    lost = "another process of this command was killed or failed: run the same command again"
    assert said.count(lost) == 1
    assert "Traceback" not in said
    before = Run(run).load_checkpoint().numbers["step"]
    again = ancestral("train", "digits", "--for", f"{before + 5}it", "--out", run, often, *SMALL)
    done = subprocess.run(again, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=True)
    assert f"continuing at step {before}" in done.stderr
    assert Run(run).load_checkpoint().numbers["step"] == before + 5


@pytest.mark.full
def test_torchrun_restarts_a_training(tmp_path):
    """The first time, one process ends at step 30. The second time, training continues and ends."""
    done = launch(2, "dies", tmp_path / "run", options=("--max-restarts=1",))
    assert done.returncode == 0, done.stderr
    assert Run(tmp_path / "run").load_checkpoint().numbers["step"] == 100


@pytest.mark.long
def test_what_is_wrong_is_said_once(tmp_path):
    command = ancestral("train", "digits", "--for", "5it", "--out", tmp_path / "run", "--nproc", "2", "train.batch=1")
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    sentence = "error: a batch of 1 samples cannot be divided among 2 processes: raise train.batch, or use fewer processes"
    assert done.stderr.splitlines().count(sentence) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("n", "count"), [(10, 3), (6, 6), (7, 1), (2, 2)])
def test_parts_are_divided_evenly_and_in_order(n, count):
    shares = [range(*Processes(rank, count).part(n).indices(n)) for rank in range(count)]
    assert [i for share in shares for i in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_has_at_least_one_sample_for_each_process():
    with pytest.raises(UsageError, match="a batch of 3 samples cannot be divided among 4 processes"):
        Replicated(Processes(0, 4)).divide(torch.arange(3))
    parts, own = Replicated(Processes(1, 3), 5).divide(torch.arange(12))
    assert [len(part) for part in parts] == [3, 3, 2, 2, 2]
    assert own == range(2, 4)


def dies(folder):
    def look(step):
        if step.step == 30 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    settings = (*SMALL, "train.checkpoint_every=0.01")
    an.train("digits", budget="100it", out=folder, settings=settings, device="cpu", quiet=True, callbacks=[look])


def threads():
    """Return the names of this process's threads, on Linux."""
    return [path.read_text(encoding="ascii").strip() for path in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    if sys.argv[1] == "part":
        part(Path(sys.argv[2]), int(sys.argv[3]))
        assert not [name for name in threads() if "gloo" in name]  # such a thread sometimes aborts the process at its end
    else:
        dies(Path(sys.argv[2]))
