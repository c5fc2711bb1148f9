"""Fine-tuning: training that starts from the averaged weights of another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ancestral.app.training.run import Run
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel

OWN = ("seen", "turns", "activity", "mixture")  # counters and fitted tensors, which each run has for itself
SPATIAL = ("image", "upscale", "inpaint", "sketch")  # conditions whose encoders do not depend on names in the data


def model_of(source: str | Path) -> dict[str, Any]:
    """Return the recipe's section `model` of a run, without its conditions, which follow from the new data."""
    section = Run.existing(source).recipe.model.model_dump(mode="json")
    section.pop("condition")
    return section


@torch.no_grad()
def start(model: GenerativeModel, source: str | Path) -> tuple[str, ...]:
    """Copy the averaged weights of a run into a model of the same family and shape.

    The encoder of a condition is copied only if it reads the new data in the same way: classes with the same names, and images.

    Returns:
        Notes for the user, which name the parts that were not copied.

    Raises:
        UsageError: If the run has another family, shape or network.
    """
    run = Run.existing(source)
    other = run.load_model("cpu", "fp32")
    if type(other) is not type(model) or tuple(other.shape) != tuple(model.shape):
        theirs, ours = ("x".join(map(str, m.shape)) for m in (other, model))
        raise UsageError(
            f"the run {source} is a {type(other).__name__} of {theirs}, and this training needs a {type(model).__name__} of "
            f"{ours}: start from a run of the same family and shape"
        )
    kinds, known = model.conditioner.kinds, other.conditioner.kinds
    alike = {
        name
        for name in kinds
        if name in known
        and (name in SPATIAL or (name == "class" and getattr(kinds[name], "names", None) == getattr(known[name], "names", ())))
    }
    mine, theirs_state = model.state_dict(), other.state_dict()
    copied, new = [], []
    for name, value in mine.items():
        path = name.split(".")
        if any(part in OWN or part.startswith("mixture") for part in path):
            continue
        if "kinds" in path and path[path.index("kinds") + 1] not in alike:
            continue
        old = theirs_state.get(name)
        if old is None or old.shape != value.shape:
            new.append(name)
            continue
        value.copy_(old)
        copied.append(name)
    if not copied:
        raise UsageError(f"the run {source} has another network: leave the settings of the network out, or leave --from out")
    notes = [f"starts from the averaged weights of {source}"]
    if fresh := [name for name in kinds if name not in alike]:
        notes.append(f"new embeddings for the condition {', '.join(fresh)}")
    if new:
        notes.append(f"{len(new)} of {len(mine)} tensors are new, e.g. {new[0]}")
    return tuple(notes)
