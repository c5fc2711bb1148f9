"""Trackers receive what is logged and the previews. One that fails stops nothing. A continued run goes on in its dashboard."""

import json

import pytest
from PIL import Image

import ancestral as an
from ancestral.app.recipes.recipe import Recipe
from ancestral.app.training.loop import Step
from ancestral.app.training.run import Run
from ancestral.app.training.trackers import IDS, Trackers
from ancestral.errors import AncestralError, UsageError

COMMON = {"images": 64, "seconds": 1.0, "progress": 0.1, "grad_norms": {"model": 1.0}, "lr": 0.1, "rate": 5.0, "memory": 1}


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "runs" / "digits")
    run.create(Recipe.of({"data": {"source": "digits"}, "train": {"budget": "1m"}}))
    run.samples.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), 200).save(run.samples / "step-00000002.png")
    return run


def steps(run, first=1):
    return [
        Step(step=first, losses={"model/total": 0.5}, logged=True, **COMMON),
        Step(step=first + 1, losses={"model/total": 0.4}, preview=run.samples / "step-00000002.png", **COMMON),
        Step(step=first + 2, losses={"model/total": 0.3}, **COMMON),
    ]


def track(run, name, first=1):
    trackers = Trackers([name], run)
    assert list(trackers.follow(steps(run, first))) == steps(run, first)  # no failure is noted
    assert trackers.close() == []


def test_tensorboard_receives_what_is_logged(run):
    pytest.importorskip("tensorboardX")
    track(run, "tensorboard")
    (events,) = (run.path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"model/total" in content
    assert b"samples" in content


def test_wandb_continues_its_run_without_a_network(run, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    track(run, "wandb")
    name = json.loads((run.path / IDS).read_bytes())["wandb"]
    track(run, "wandb", first=4)
    assert json.loads((run.path / IDS).read_bytes())["wandb"] == name
    folders = sorted((run.path / "wandb").glob(f"offline-run-*-{name}"))
    stored = b"".join(file.read_bytes() for folder in folders for file in folder.glob("*.wandb"))
    assert b"model/total" in stored
    assert b"samples" in stored
    assert b"model.schedule" in stored  # the recipe


def test_wandb_that_refuses_says_what_to_do(run, monkeypatch):
    wandb = pytest.importorskip("wandb")

    def refuse(**how):
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login`")

    monkeypatch.setattr(wandb, "init", refuse)
    said = r"wandb cannot begin \(No API key configured.\): run `wandb login`, or set WANDB_MODE=offline"
    with pytest.raises(AncestralError, match=said):
        Trackers(["wandb"], run)


def test_trackio_keeps_its_runs_here(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="trackio needs an older pillow than the tests have")
    track(run, "trackio")
    track(run, "trackio", first=4)
    (found,) = trackio.Api().runs("ancestral")
    assert found.name == "digits"


@pytest.mark.filterwarnings("ignore")  # of its database
def test_mlflow_continues_its_run_without_a_server(run, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow needs older packages than the tests have")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track(run, "mlflow")
    track(run, "mlflow", first=4)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run.path.resolve() / 'mlflow' / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("ancestral").experiment_id])
    assert found.info.run_name == "digits"
    assert found.info.status == "FINISHED"
    assert found.data.params["model.family"] == "diffusion"
    values = [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, "model/total")]
    assert sorted(values) == [(1, 0.5), (2, 0.4), (4, 0.5), (5, 0.4)]
    assert [image.path for image in client.list_artifacts(found.info.run_id)]


class Failing:
    def __init__(self, run):
        self.closed = False

    def log(self, step):
        raise ConnectionError("the dashboard\nis away")

    def close(self):
        raise OSError("the disk is full")


class Closing(Failing):
    def log(self, step):
        pass


@pytest.fixture
def failing():
    from ancestral import registry

    an.register("tracker", "failing", "fails")(Failing)
    an.register("tracker", "closing", "fails at the end")(Closing)
    yield
    for name in ("failing", "closing"):
        del registry._kinds["tracker"][name]


def test_a_tracker_that_fails_stops_nothing(run, failing):
    trackers = Trackers(["failing", "closing"], run)
    notes = [step.notes for step in trackers.follow(steps(run))]
    assert notes == [["the tracker failing failed and receives nothing more: the dashboard"], [], []]
    assert trackers.close() == ["the tracker closing could not write the rest: the disk is full"]


def test_a_training_is_tracked_from_python(tmp_path, failing, capsys):
    an.train("digits", budget="2it", out=tmp_path / "run", settings=("model.width=16", "train.batch=8"), track=["failing"])
    said = " ".join(capsys.readouterr().err.split())
    assert "the tracker failing failed and receives nothing more: the dashboard" in said
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_an_unknown_tracker_is_refused(run):
    with pytest.raises(UsageError, match="unknown tracker 'tensorbord': did you mean 'tensorboard'"):
        Trackers(["tensorbord"], run)
