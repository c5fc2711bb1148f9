"""The function `push`, which writes a run or a saved model to the Hugging Face hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ancestral.app import records
from ancestral.app.evaluation.result import Evaluation
from ancestral.app.hub.card import CURVES, SAMPLES, card, pictures
from ancestral.app.progress import Reporter
from ancestral.app.remote import PULLED, hub_errors, is_remote, named
from ancestral.app.training.run import Run
from ancestral.app.training.saved import Opened, opened
from ancestral.errors import UsageError
from ancestral.version import __version__


def push(
    run: str | Path,
    repo: str,
    *,
    licence: str,
    private: bool = False,
    message: str | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> str:
    """Write a run to the Hugging Face hub: weights, recipe, tuning, measurements, and a model card that is made from them.

    Checkpoints and data stay here, and no path of this machine is written. The hub's own variables, `HF_TOKEN` and
    `HF_ENDPOINT`, say who writes and where.

    Args:
        run: the folder of a run or of a saved model.
        repo: the name there, `user/name`. A repository that does not exist is made.
        licence: the licence of the model, as the hub names it, such as "apache-2.0" or "cc-by-4.0".
        private: whether a new repository is private.
        message: the message of the commit.
        device: the device on which the samples of the card are drawn.
        reporter: shows the progress.

    Returns:
        The address of the commit.

    Raises:
        UsageError: if the name is malformed, or the run has no model.
        AncestralError: if the hub refuses or does not answer.
    """
    reporter = reporter or Reporter(quiet=True)
    if is_remote(run):
        raise UsageError(f"{run} is on the hub already: give a folder of this machine")
    owner, name, revision = named(repo)
    if revision is not None:
        raise UsageError(f"{repo!r} names a revision: a push makes a new commit, so write {owner}/{name}")
    folder = opened(run)
    if not folder.weights.is_file():
        raise UsageError(f"{run} has no trained model yet: continue it with `ancestral train`")
    with TemporaryDirectory() as place, reporter.live() as line:
        copied = prepared(folder, Path(place), f"{owner}/{name}", licence, device, line.update)
        line.update(f"writing to {owner}/{name}")
        with hub_errors(repo) as hub:
            hub.create_repo(f"{owner}/{name}", private=private, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=f"{owner}/{name}",
                folder_path=place,
                commit_message=message or f"{folder.path.resolve().name} by ancestral {__version__}",
            )
    reporter.say(f"{len(copied)} files of {folder.path}: {commit.commit_url}")
    return str(commit.commit_url)


def prepared(folder: Opened, place: Path, repo: str, licence: str, device: str, progress: Callable[[str], None]) -> list[str]:
    """Write all files of the repository to `place`, and return their names."""
    for name in PULLED:
        file = folder.path / name
        if file.is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place / name)
    if isinstance(folder, Run):
        _without_paths(folder, place)
    progress("drawing samples for the model card")
    for name, content in pictures(folder, device).items():
        (place / name).write_bytes(content)
    shown = {name for name in (SAMPLES, CURVES) if (place / name).is_file()}
    (place / "README.md").write_text(card(folder, repo, licence, shown), encoding="utf-8")
    return sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())


def _without_paths(run: Run, place: Path) -> None:
    """Leave the place of the data, of a pretrained autoencoder and of a run that training started from out of the copies."""
    recipe, copied = run.recipe.without_places(), Run(place)
    copied.write_recipe(recipe, run.id)
    records.write(copied.config_file, asdict(run.config) | {"source": None, "model": recipe.model.model_dump(mode="json")})
    evaluation = place / "evaluation.json"
    if evaluation.is_file():
        replace(Evaluation.load(evaluation), subject=run.path.resolve().name).save(evaluation)
