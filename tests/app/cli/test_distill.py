"""`ancestral distill` as a person runs it."""

import inspect
import json
import shutil

import pytest
import torch

import ancestral as an
from ancestral.app.cli.distill import distill
from ancestral.app.distill import plan_distillation
from ancestral.app.training.run import Run
from ancestral.batch import Batch
from ancestral.errors import UsageError
from ancestral.noise import SampleNoise

SMALL = ("model.channels=[8, 8]", "train.previews=0", "train.batch=16")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    an.train("digits", budget="20it", out=folder, condition="class", settings=SMALL, device="cpu", quiet=True)
    return folder


@pytest.fixture(scope="module")
def student(teacher, command):
    done = command("distill", teacher, "--for", "8it", "train.previews=1")
    assert done.returncode == 0, done.stderr
    for words in ("distilled, ", "for 8it", "done: 8 steps"):
        assert words in done.stderr
    return teacher.with_name("digits-2steps")


def test_it_draws_in_two_evaluations(student, command, tmp_path):
    drawn = json.loads(command("sample", student, "-n", 4, "--class", "3", "--out", tmp_path / "x.npz", "--json").stdout)
    assert (drawn["n"], drawn["nfe"], drawn["classes"]) == (4, 2, ["3"] * 4)
    facts = json.loads(command("info", student, "--json").stdout)
    assert (facts["family"], facts["conditions"], facts["step"]) == ("distilled", ["class"], 8)
    assert "distilled, " in command("info", student).stdout
    assert Run(student).recipe.model.least_steps == 50
    refused = command("sample", student, "--steps", 5, "--out", tmp_path / "y.png")
    assert refused.returncode == 2
    assert "steps" in refused.stderr


def test_it_is_evaluated_and_reported(student, command):
    told = json.loads(command("evaluate", student, "-n", 40, "--features", "random", "--json").stdout)
    assert told["family"] == "distilled"
    assert told["cost"]["nfe"] == 2
    done = command("report", student, "-n", 40, "--features", "random")
    assert done.returncode == 0, done.stderr


def test_it_continues_where_it_stopped_and_only_with_its_teacher(teacher, command, tmp_path):
    words = ("distill", teacher, "--steps", 1, "train.previews=0", "-q")
    assert command(*words, "--for", "6it", "--out", tmp_path / "whole").returncode == 0
    part = tmp_path / "part"

    trainer = plan_distillation(teacher, 1, "6it", part, settings=("train.previews=0",), device="cpu").begin()
    for step in trainer:
        if step.step == 3:
            trainer.save()
            break
    assert command(*words, "--for", "6it", "--out", part).returncode == 0
    read = lambda folder: (folder / "model" / "model.safetensors").read_bytes()  # noqa: E731
    assert read(tmp_path / "whole") == read(part)
    other = tmp_path / "digits"
    shutil.copytree(teacher, other)
    weights = an.load(teacher, device="cpu").state_dict()
    Run(other).save_model({name: t + 0.001 for name, t in weights.items()}, Run(other).recipe)
    done = command("distill", other, "--steps", 1, "train.previews=0", "--for", "6it", "--out", part)
    assert done.returncode == 2
    assert "holds a run of another recipe" in done.stderr
    assert "model.config.origin" in done.stderr


def test_the_command_has_the_defaults_of_python():
    python, command = (inspect.signature(function).parameters for function in (an.distill, distill))
    assert all(command[name].default == python[name].default for name in ("steps", "budget", "guidance", "teacher_steps"))


def test_python_returns_the_student(teacher, tmp_path):
    model = an.distill(teacher, 1, "2it", tmp_path / "run", device="cpu", quiet=True, settings=("train.previews=0",))
    assert isinstance(model, an.DistilledModel)
    assert model.times == [1.0, 0.0]


def test_wrong_requests_are_one_sentence(teacher, student, command, tmp_path):
    an.train("digits", "gan", "2it", tmp_path / "gan", device="cpu", quiet=True, settings=("train.previews=0", "train.batch=8"))
    for words, message in (
        ((teacher, "--steps", 0), "from 1 step to the teacher's 8; got 0"),
        ((teacher, "model.width=8"), "only settings of train can be given"),
        ((tmp_path / "gan",), "give a diffusion, score or latent model"),
        ((student,), "give a diffusion, score or latent model"),
        ((tmp_path / "none",), "does not exist"),
    ):
        done = command("distill", *words)
        assert done.returncode == 2, done.stderr
        assert message in " ".join(done.stderr.split())
    done = command("train", "digits", "--out", student)
    assert done.returncode == 2
    assert "continue with the command that made it" in " ".join(done.stderr.split())


def test_a_latent_model_is_distilled(tmp_path, command, monkeypatch):
    words = ("model.autoencoder.width=8", "model.prior.width=8", "train.batch=8", "train.previews=0")
    an.train("digits", "latent", "8it", tmp_path / "run", device="cpu", quiet=True, settings=words)
    monkeypatch.delattr("ancestral.app.training.stages.encoded")  # no data are read, so none need be encoded
    done = command("distill", tmp_path / "run", "--for", "2it", "train.previews=0")
    assert done.returncode == 0, done.stderr
    before, after = (an.load(folder, device="cpu") for folder in (tmp_path / "run", tmp_path / "run-2steps"))
    assert isinstance(after.prior, an.DistilledModel)
    assert (after.mean == before.mean).all()
    assert Run(tmp_path / "run-2steps").recipe.model.least_steps == 50
    drawn = command("sample", tmp_path / "run-2steps", "-n", 2, "--out", tmp_path / "x.npz", "--json")
    assert json.loads(drawn.stdout)["nfe"] == 2
    with pytest.raises(UsageError, match="no denoiser to distil"):
        an.distill(tmp_path / "run-2steps", quiet=True)


def test_the_training_does_not_depend_on_the_number_of_parts(teacher, tmp_path):
    steps = []
    for accumulate in (1, 4):
        words = ("train.previews=0", f"train.accumulate={accumulate}")
        trainer = plan_distillation(teacher, 2, "2it", tmp_path / str(accumulate), settings=words, device="cpu").begin()
        steps.append([dict(step.losses) for step in trainer])
    assert steps[0][0] == pytest.approx(steps[1][0], rel=1e-5)
    assert steps[0][1] == pytest.approx(steps[1][1], rel=1e-3)


def test_a_step_never_waits_for_the_device(teacher, tmp_path):
    """The meta device has no values: a step that reads one raises there."""
    student = plan_distillation(teacher, 2, "2it", tmp_path / "run", device="cpu").model.to("meta")
    student.train()
    batch = Batch(torch.zeros(4, 1, 8, 8, device="meta"), {"class": torch.zeros(4, dtype=torch.int64, device="meta")})
    loss = student.losses(batch, "model", SampleNoise(range(4), "meta"))["total"]
    assert loss.device.type == "meta"
    loss.mean().backward()
