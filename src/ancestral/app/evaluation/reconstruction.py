"""Quality of the reconstruction of held-out samples, for models that encode and decode them."""

from __future__ import annotations

import torch
from torch import Tensor

from ancestral.app.data import DataSet
from ancestral.app.evaluation.samples import at_levels
from ancestral.app.training.stage import Progress, silent
from ancestral.fidelity import psnr, ssim
from ancestral.metrics import Estimate
from ancestral.models import GenerativeModel, HasReconstruction

BATCH = 64


def returned(model: HasReconstruction, data: DataSet, rows: Tensor, progress: Progress = silent) -> tuple[Tensor, Tensor]:
    """Return held-out samples and their reconstructions, both at the levels of the data."""
    assert isinstance(model, GenerativeModel)
    data = data.encoded(model.conditioner)
    x: list[Tensor] = []
    y: list[Tensor] = []
    for part in rows.split(BATCH):
        progress(f"reconstructions: {BATCH * len(y):,} of {len(rows):,}")
        x.append(data.batch(part, "test").x)
        with model.inference():
            y.append(model.reconstruct(x[-1].to(model.device), data.asked(part) or None).cpu())
    return torch.cat(x), at_levels(torch.cat(y), data)


def fidelities(x: Tensor, y: Tensor, bounds: tuple[float, float] | None) -> dict[str, Estimate]:
    """Return PSNR and SSIM of pictures in [0, 1], with their errors over the choice of pictures; {} for other samples."""
    if x.ndim != 4 or bounds != (0.0, 1.0):
        return {}
    return {"psnr": Estimate.mean(psnr(x, y).double()), "ssim": Estimate.mean(ssim(x, y).double())}
