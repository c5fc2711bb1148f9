"""The model of a run as it was at one of its checkpoints."""

from __future__ import annotations

import torch

from ancestral.app.training.flat import views
from ancestral.app.training.kept import put_back
from ancestral.app.training.run import Run
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel
from ancestral.models.latent import LatentModel
from ancestral.runtime import Precision


@torch.no_grad()
def earlier(run: Run, step: int, device: str = "auto", precision: Precision = "auto") -> GenerativeModel:
    """The averaged model at the checkpoint of that step. Raises UsageError if there is none, or it is of an earlier stage."""
    model = run.load_model(device, precision)
    tensors = run.checkpoint(step).tensors
    trained = model.prior if isinstance(model, LatentModel) else model  # in the last stage
    for player in trained.players():
        average = tensors.get(f"{player.name}/average")
        if average is None or len(average) != sum(p.numel() for p in player.parameters):
            raise UsageError(f"at step {step} {run.path} had not yet begun the training of its last stage: choose a later one")
        for p, value in zip(player.parameters, views(player.parameters, average), strict=True):
            p.copy_(value)
    put_back(model, tensors)
    return model
