"""What a run is and how its training goes, as facts and in plain words. `ancestral info` and the studio show it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ancestral.app.evaluation.result import Evaluation
from ancestral.app.recipes.denoising import DenoisingRecipe
from ancestral.app.recipes.recipe import Recipe
from ancestral.app.sampling.tuning import Tuning, stale
from ancestral.app.training.run import Run, copies, diagnoses, findings
from ancestral.app.training.saved import weights_of
from ancestral.errors import AncestralError
from ancestral.models.denoising import SOLVER, STEPS

Tone = Literal["good", "warn", "bad"]
FRESH = 20.0  # seconds since the last measurement in which a run counts as being trained


def facts(run: Run) -> dict[str, Any]:
    """Return the facts of a run, as `ancestral info --json` prints them. Raises AncestralError if it has no model yet."""
    recipe, spec = run.recipe, run.spec
    rows, notes = run.measured()
    numbers, unusable = run.counted()
    key = next((name for row in rows for name in row if name.endswith("/total")), None)
    looks = diagnoses(rows)
    previews = sorted(run.samples.glob("step-*.png"))
    return {
        "run": str(run.path),
        "family": recipe.model.title,
        "conditions": list(recipe.model.conditions),
        "progress": numbers.get("progress", 0.0),
        "step": numbers.get("step", 0),
        "images": numbers.get("images", 0),
        "seconds": numbers.get("seconds", 0.0),
        "skipped": numbers.get("skipped", 0),
        "parameters": numbers.get("parameters", 0),
        "data": spec.to_json(),
        "recipe": recipe.model_dump(mode="json"),
        "preview": str(previews[-1]) if previews else None,
        "sampler": sampler(run),
        "quality": quality(run),
        "health": {k.partition("/")[2]: v for look in looks for k, v in look.items() if k.startswith("health/")},
        "findings": findings(rows),
        "notes": run.weights_notes() + unusable + notes,
        "copies": copies(rows),
        "curve": [(row["step"], row[key]) for row in rows if key is not None and row.get(key) is not None],
    }


def counters(run: Run) -> dict[str, Any]:
    """Return the numbers of the newest checkpoint, {} if there is none."""
    return run.counters()


def quality(run: Run) -> str | None:
    """Return the headline of the last evaluation, or None."""
    file = run.path / "evaluation.json"
    if not file.is_file():
        return None
    found = Evaluation.load(file)
    real = f", real data {found.headline.real}" if found.headline.real else ""
    other = "" if found.weights in ("", weights_of(run)) else f"; {file.name} is of other weights than those of now"
    return f"{found.headline.name} {found.headline.value}{real}, of {found.n:,} samples{other}"


def sampler(run: Run) -> str | None:
    """Return the sampler that `sample` uses by default, and the numbers of steps for which there are others. None: no steps."""
    section = run.recipe.model
    if not isinstance(getattr(section, "prior", section), DenoisingRecipe):
        return None
    tuning = Tuning.of(run)
    if tuning is None:
        return stale(run) or f"{STEPS} steps of {SOLVER}; `ancestral tune {run.path}` fits fewer to the model"
    usual = tuning.of_steps(tuning.usual) or f"{STEPS} steps of {SOLVER}"
    return f"{usual}; tuned for {', '.join(str(setting.steps) for setting in tuning.settings)} steps"


def is_fresh(run: Run) -> bool:
    """Return whether a process has written a measurement within the last seconds."""
    try:
        return abs(time.time() - run.metrics_file.stat().st_mtime) < FRESH  # the clock may have been set back
    except OSError:
        return False


@dataclass(frozen=True)
class Sentence:
    """A sentence about the health of a training. tone: whether it is good news."""

    text: str
    tone: Tone


def health(run: Run, rows: list[dict[str, Any]] | None = None) -> list[Sentence]:
    """Say in plain words how a training goes: its losses, its steps, and the findings of the family's own checks."""
    try:
        recipe = run.recipe
    except AncestralError as error:  # of another version, or damaged
        return [Sentence(_sentence(str(error)), "bad")]
    rows = run.metrics() if rows is None else rows
    steps = [row for row in rows if any(name.endswith("/total") for name in row)]
    if not steps:
        return [Sentence("The training has not measured anything yet.", "warn")]
    found: list[Sentence] = []
    last = steps[-1]
    key = next(name for name in last if name.endswith("/total"))
    skipped = sum("skipped" in row for row in rows)
    if skipped:
        found.append(
            Sentence(
                f"{skipped} step{'s were' if skipped > 1 else ' was'} skipped: a loss or a gradient was not finite.", "bad"
            )
        )
    looks, problems = diagnoses(rows), findings(rows)
    found += [Sentence(_sentence(problem), "bad") for problem in problems]
    if looks and not problems:
        step = looks[-1]["step"]
        early = step < recipe.model.least_steps // 2
        what = "came too early to judge it" if early else "found nothing wrong"
        found.append(Sentence(f"The last check of the model, at step {step:,}, {what}.", "warn" if early else "good"))
    if recipe.model.family != "gan":
        found += _trend([row for row in steps if row.get("stage") == last.get("stage")], key)
    found += _length(recipe, last, counters(run).get("progress", 0.0))
    return found


def _trend(steps: list[dict[str, Any]], key: str) -> list[Sentence]:
    """Compare the mean loss of the last fifth of the steps with that of the fifth before, with their errors."""
    values = [row[key] for row in steps if row.get(key) is not None]
    fifth = len(values) // 5
    if fifth < 4:
        return []
    late, before = values[-fifth:], values[-2 * fifth : -fifth]
    means, errors = [], []
    for part in (before, late):
        mean = sum(part) / fifth
        means.append(mean)
        errors.append(sum((v - mean) ** 2 for v in part) / (fifth - 1) / fifth)
    change, error = means[1] - means[0], 2 * math.sqrt(sum(errors))
    if change > error:
        return [Sentence("The loss rose during the last fifth of the training.", "warn")]
    if change < -error:
        return [Sentence("The loss still falls: longer training should help.", "good")]
    return [Sentence("The loss no longer changes by more than its own noise.", "good")]


def _length(recipe: Recipe, last: dict[str, Any], progress: float) -> list[Sentence]:
    """Compare the number of steps with that which samples of the family need."""
    least, step = recipe.model.least_steps, last["step"]
    total = step if progress >= 1 or not progress else step / progress
    if step >= least:
        return []
    quarter = least // 4
    if progress < 1:
        return [
            Sentence(
                f"Samples become clear after about {least:,} steps; {step:,} are done.", "warn" if total < least else "good"
            )
        ]
    what = "may be noise" if step < quarter else "may be rough"
    counted = f"{step:,} step{'' if step == 1 else 's'}"
    return [Sentence(f"The training ended after {counted}: samples {what}. They become clear after about {least:,}.", "warn")]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def state_of(run: Run) -> dict[str, Any]:
    """Return a short description of a run for a list: name, family, data, progress, and whether a process trains it."""
    numbers: dict[str, Any] = counters(run)
    found: dict[str, Any] = {
        "family": "",
        "data": "",
        "budget": "",
        "source": "",
        "condition": [],
        "problem": None,
        "progress": numbers.get("progress", 0.0),
        "step": numbers.get("step", 0),
        "seconds": numbers.get("seconds", 0.0),
        "parameters": numbers.get("parameters", 0),
        "fresh": is_fresh(run),
        "sampled": run.weights.is_file(),
    }
    try:
        recipe = run.recipe
        found |= {
            "family": recipe.model.title,
            "budget": recipe.train.budget,
            "source": Path(recipe.data.source).name,
            "data": Path(recipe.data.source).stem,
            "condition": list(recipe.model.conditions),
        }
    except AncestralError as error:
        found["problem"] = str(error)
    return found
