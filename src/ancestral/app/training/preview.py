"""What a person sees of a training on the way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.training.stage import Stage
from ancestral.conditioning.render import Rendering
from ancestral.models import GenerativeModel

SHOWN = 16  # samples of a preview, of vectors 512


def preview(model: GenerativeModel, stage: Stage, seen: DataSet, data: DataSet) -> tuple[Tensor, Sequence[Rendering]]:
    """Samples of the run's model, always of the same seeds and asked for the same, and what that was; or, of a stage that has
    pictures of its own, these. seen: what the stage is trained on. data: of the run.
    """
    if stage.pictures is not None:
        few = torch.arange(min(SHOWN // 2, len(seen.test)))
        return stage.pictures(seen.batch(few, "test").to(model.device)), ()
    n = SHOWN if len(model.shape) > 1 else 512
    rows = torch.linspace(0, len(data.test) - 1, n).long()
    return model.sample(n, data.asked(rows), seeds=range(n)), data.shown(rows)
