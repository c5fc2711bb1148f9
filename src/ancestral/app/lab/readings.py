"""One network that is read as eps, x, score and v: four forms of one answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ancestral.app.lab.plane import lattice, plane_of, rounded, seeded, trained
from ancestral.errors import UsageError
from ancestral.models.diffusion import Diffusion
from ancestral.networks import denoising_network
from ancestral.prediction import Prediction, PredictionType
from ancestral.schedules import Cosine

FORMS: tuple[PredictionType, ...] = ("eps", "x", "score", "v")
ARROWS, BATCH, EVERY = 13, 256, 25


def readings(
    source: str | Sequence[Sequence[float]], target: str = "v", t: float = 0.5, steps: int = 500
) -> Iterator[dict[str, Any]]:
    """Train a network with one target, and yield its four readings at time t beside the exact ones.

    Raises:
        UsageError: if the target is not one of the four, or t is not a time with noise.
    """
    if target not in FORMS:
        raise UsageError(f"the target is one of {', '.join(FORMS)}; got {target}")
    if not 0.02 <= t <= 0.98:
        raise UsageError(f"choose a time from 0.02 to 0.98; got {t:g}")
    plane, half = plane_of(source), 2.6
    form: PredictionType = target
    schedule = Cosine()

    def make() -> Diffusion:
        return Diffusion(denoising_network((2,), width=64, blocks=2), shape=(2,), schedule=schedule, target=form)

    model = seeded(make, 0)
    assert isinstance(model, Diffusion)
    level = schedule.levels(torch.tensor([t], dtype=torch.float64))[0]
    at = lattice(half * (1 - 1 / ARROWS), ARROWS)
    with torch.no_grad():
        exact: Prediction = plane.oracle(at, level)
    loss = 0.0
    for step, losses in enumerate(trained(model, lambda step: plane.sample(BATCH, 1 + step), steps, 4e-3), 1):
        now = losses["model"]["total"] / 2
        loss = now if step == 1 else 0.95 * loss + 0.05 * now
        if step % EVERY and step != steps:
            continue
        with model.inference():
            own = model.denoise(at, level)
        values = {}
        for name in FORMS:
            mine, real = own.read(name), exact.read(name)
            error = float((mine - real).square().sum(1).mean().sqrt() / real.square().sum(1).mean().sqrt().clamp(min=1e-6))
            values[name] = {"own": rounded(mine), "exact": rounded(real), "error": round(error, 4)}
        yield {
            "step": step,
            "steps": steps,
            "loss": loss,
            "half": half,
            "at": rounded(at),
            "alpha": level.alpha,
            "sigma": level.sigma,
            "forms": values,
        }
