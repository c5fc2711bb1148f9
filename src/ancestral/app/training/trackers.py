"""Trackers, which send measurements to other dashboards.

`metrics.jsonl` is always written. A tracker receives the same steps during training:

    trackers = Trackers(["tensorboard"], run)
    for step in trackers.follow(trainer): ...
    trackers.close()

Another tracker is a class with `log` and `close` that is registered by `an.register("tracker", name, meaning)`.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ancestral.app.training.loop import Step
from ancestral.app.training.run import Run
from ancestral.builtin import built_in
from ancestral.errors import AncestralError
from ancestral.files import read_json, write_atomically
from ancestral.registry import lookup

PROJECT = "ancestral"  # under which runs stand together in a dashboard
IDS = "trackers.json"  # in the run folder: the names that dashboards gave to the run, so that a continued run continues there


class Tracker(Protocol):
    """An object that receives each logged step and is closed at the end."""

    def log(self, step: Step) -> None:
        """Record the step's numbers and its preview."""

    def close(self) -> None:
        """Write the rest and close."""


@built_in("tracker", "tensorboard")
class TensorBoard:
    """Tracker that writes event files to the run folder's `tensorboard/`. Raises AncestralError if tensorboardX is missing."""

    def __init__(self, run: Run):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise _missing("tensorboardX", "tensorboard") from None
        self.writer = SummaryWriter(str(run.path / "tensorboard"))

    def log(self, step: Step) -> None:
        for name, value in numbers(step).items():
            self.writer.add_scalar(name, value, step.step)
        if step.preview:
            self.writer.add_image("samples", pixels(step.preview), step.step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class _Logged:
    """What wandb and trackio share: a run with `log` and `finish`, and a class of pictures."""

    run: Any
    picture: Callable[[np.ndarray], Any]

    def log(self, step: Step) -> None:
        picture = {"samples": self.picture(pixels(step.preview))} if step.preview else {}
        self.run.log(numbers(step) | picture, step=step.step)

    def close(self) -> None:
        self.run.finish()


@built_in("tracker", "wandb")
class WandB(_Logged):
    """Tracker of Weights & Biases. Its own variables, such as WANDB_MODE=offline and WANDB_PROJECT, choose where it writes.

    Raises AncestralError if wandb is missing or refuses, for example because nobody is logged in.
    """

    def __init__(self, run: Run):
        try:
            import wandb
        except ImportError:
            raise _missing("wandb", "wandb") from None
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=run.path.name,
                id=_stored(run, "wandb", lambda: secrets.token_hex(4)),
                resume="allow",
                dir=str(run.path),
                config=run.recipe.flat(),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:  # of many types
            raise _refused("wandb", error, "run `wandb login`, or set WANDB_MODE=offline") from None
        self.picture = wandb.Image


@built_in("tracker", "trackio")
class Trackio(_Logged):
    """Tracker of trackio, which keeps its runs on this machine (TRACKIO_DIR). Raises AncestralError if trackio is missing."""

    def __init__(self, run: Run):
        try:
            import trackio
        except ImportError:
            raise _missing("trackio", "trackio") from None
        try:
            self.run = trackio.init(project=PROJECT, name=run.path.name, config=run.recipe.flat(), resume="allow")
        except Exception as error:
            raise _refused("trackio", error, "check TRACKIO_DIR") from None
        self.picture = trackio.Image


@built_in("tracker", "mlflow")
class MLflow:
    """Tracker of MLflow: to the server at MLFLOW_TRACKING_URI, otherwise to a database in the run folder's `mlflow/`.

    Raises AncestralError if mlflow is missing, or if the server does not answer.
    """

    def __init__(self, run: Run):
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise _missing("mlflow", "mlflow") from None
        folder = run.path.resolve() / "mlflow"
        server = os.environ.get("MLFLOW_TRACKING_URI")
        try:
            if server is None:
                folder.mkdir(parents=True, exist_ok=True)
            self.client = MlflowClient(tracking_uri=server or f"sqlite:///{folder / 'mlflow.db'}")
            found = self.client.get_experiment_by_name(PROJECT)
            place = None if server else (folder / "artifacts").as_uri()
            experiment = found.experiment_id if found else self.client.create_experiment(PROJECT, place)
            self.id = _stored(run, "mlflow", lambda: self._begun(experiment, run))
            self.client.set_terminated(self.id, "RUNNING")
        except (MlflowException, OSError) as error:
            raise _refused("mlflow", error, "check MLFLOW_TRACKING_URI") from None

    def _begun(self, experiment: str, run: Run) -> str:
        """Begin a run with the settings of the recipe as its parameters, and return its name."""
        begun: str = self.client.create_run(experiment, run_name=run.path.name).info.run_id
        for name, value in run.recipe.flat().items():
            self.client.log_param(begun, name, str(value)[:500])  # the longest that it takes
        return begun

    def log(self, step: Step) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, int(1000 * step.seconds), step.step) for name, value in numbers(step).items()]
        self.client.log_batch(self.id, metrics)
        if step.preview:
            self.client.log_image(self.id, pixels(step.preview), key="samples", step=step.step)

    def close(self) -> None:
        self.client.set_terminated(self.id)


class Trackers:
    """The trackers of a training. One that fails receives nothing more, and training goes on.

    Args:
        names: registered names.
        run: the run folder.

    Raises:
        UsageError: if a name is unknown.
        AncestralError: if a tracker cannot begin.
    """

    def __init__(self, names: Sequence[str], run: Run):
        self.working: dict[str, Tracker] = {name: lookup("tracker", name)(run) for name in dict.fromkeys(names)}

    def follow(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Yield the same steps, and send those that are logged or have a preview to the trackers. Notes tell of failures."""
        for step in steps:
            failed: list[str] = []
            for name, each in list(self.working.items()) if step.logged or step.preview else ():
                try:
                    each.log(step)
                except Exception as error:  # of another program: of any type
                    del self.working[name]
                    failed.append(f"the tracker {name} failed and receives nothing more: {_brief(error)}")
            yield replace(step, notes=[*step.notes, *failed]) if failed else step

    def close(self) -> list[str]:
        """Close the trackers. Returns what the user should know."""
        notes = []
        for name, each in self.working.items():
            try:
                each.close()
            except Exception as error:
                notes.append(f"the tracker {name} could not write the rest: {_brief(error)}")
        self.working = {}
        return notes


def numbers(step: Step) -> dict[str, float]:
    """Return the real numbers of a step by name."""
    return {name: value for name, value in step.row().items() if isinstance(value, float)}


def pixels(picture: Path) -> np.ndarray:
    """Return a picture as uint8 `(h, w, 3)`."""
    with Image.open(picture) as opened:
        return np.asarray(opened.convert("RGB"))


def _stored(run: Run, name: str, begin: Callable[[], str]) -> str:
    """Return the name that a dashboard gave to the run, from the run folder if it has been tracked before."""
    file = run.path / IDS
    try:
        ids = read_json(file.read_bytes())
    except (OSError, ValueError):
        ids = {}
    if not isinstance(ids, dict) or not isinstance(ids.get(name), str):
        ids = {**(ids if isinstance(ids, dict) else {}), name: begin()}
        write_atomically(file, json.dumps(ids).encode())
    return str(ids[name])


def _missing(package: str, extra: str) -> AncestralError:
    return AncestralError(f"{package} is not installed: pip install 'ancestral[{extra}]'")


def _refused(name: str, error: Exception, remedy: str) -> AncestralError:
    return AncestralError(f"{name} cannot begin ({_brief(error)}): {remedy}")


def _brief(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
