"""The commands that a person may want to run next after a run was trained."""

from __future__ import annotations

import shlex
from pathlib import Path

from ancestral.app.evaluation.verdict import still_falls
from ancestral.app.recipes.own import OWN
from ancestral.app.sampling.tuning import FILE
from ancestral.app.training.budget import Budget
from ancestral.app.training.run import Run

LONGER = 5  # times the budget


def suggestions(run: Run, *, copies: bool = False) -> tuple[tuple[str, str], ...]:
    """Return commands, each with what it does, in the order in which they help most.

    A model whose loss still falls is trained longer first, unless it `copies` its data. The commands that need the data are
    left out if their place is not known, as for arrays that were given in Python, and those that train if the network is not
    the package's.
    """
    recipe, sources = run.recipe, run.sources
    source = shlex.quote(_short(sources[0])) if sources and recipe.model.family != OWN else None
    where = shlex.quote(_short(str(run.path)))
    found = []
    if source is not None and not copies and still_falls(run.measured()[0]) is not False:
        longer = _longer(Budget.parse(recipe.train.budget))
        found.append((f"ancestral train {source} --for {longer} --out {where}", "train longer: the run continues where it is"))
    if classes := run.spec.classes if "class" in recipe.model.conditions else ():
        found.append((f"ancestral sample {where} --class {shlex.quote(classes[0])} -n 16", "draw one class"))
    else:
        found.append((f"ancestral sample {where} -n 64", "draw new samples"))
    if recipe.model.family in ("diffusion", "score", "latent") and not (run.path / FILE).exists():
        found.append((f"ancestral tune {where}", "fit the sampler to this model: good samples in 4 to 8 evaluations"))
    if source is not None:
        found.append((f"ancestral compare {source}", "train every family of models on these data, and say which is best"))
    found.append(("ancestral studio", "watch, sample and compare runs in the browser"))
    return tuple(found)


def _longer(budget: Budget) -> str:
    if budget.unit == "seconds":
        return f"{max(1, round(LONGER * budget.amount / 60))}m"
    return f"{LONGER * budget.amount:g}{'it' if budget.unit == 'iterations' else 'epochs'}"


def _short(path: str) -> str:
    """Return a path as it is seen from the working directory if it lies in it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
