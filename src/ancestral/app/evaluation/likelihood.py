"""Likelihoods of held-out data, for families that have them."""

from __future__ import annotations

from typing import Any

import torch

from ancestral.app.data import DataSet
from ancestral.app.evaluation.result import Metric
from ancestral.app.training.stage import Progress, silent
from ancestral.errors import NoLikelihoodError
from ancestral.likelihood import Bound
from ancestral.metrics import Estimate
from ancestral.models import GenerativeModel, HasBound, seeds_from
from ancestral.noise import SampleNoise
from ancestral.registry import register

N = 1000
BATCH = 250


def held_out(model: HasBound, data: DataSet, n: int = N, progress: Progress = silent, **how: Any) -> list[Bound]:
    """Return the model's bounds for at most n held-out samples, in batches. how: options of its `log_prob`."""
    assert isinstance(model, GenerativeModel)
    data = data.encoded(model.conditioner)
    rows = torch.linspace(0, len(data.test) - 1, min(n, len(data.test))).long()
    seeds = seeds_from(0, len(rows))
    bounds: list[Bound] = []
    for start in range(0, len(rows), BATCH):
        part = slice(start, start + BATCH)
        progress(f"likelihood: {start:,} of {len(rows):,}")
        batch = data.batch(rows[part], "test").to(model.device)
        condition = {name: batch.conditions[name] for name in model.conditioner.kinds if name in batch.conditions}
        noise = SampleNoise(seeds[part], model.device)
        with model.inference():
            bounds.append(model.log_prob(batch.x, condition or None, noise=noise, **how))
    return bounds


def estimates(bounds: list[Bound], levels: int | None) -> tuple[Estimate, Estimate]:
    """Return the means of nats and of bits per dimension, with their errors over the choice of samples."""
    nats = torch.cat([bound.value for bound in bounds]).double().cpu()
    bits = torch.cat([bound.bits_per_dim(levels) for bound in bounds]).double().cpu()
    return Estimate.mean(nats), Estimate.mean(bits)


@register("metric", "nats", "log-likelihood of held-out data in nats", better="higher", takes="evaluator")
@register("metric", "bits", "bits a dimension of held-out data", better="lower", takes="evaluator")
def likelihood(model: GenerativeModel, data: DataSet, progress: Progress) -> list[Metric]:
    """Return bits per dimension and nats by the model's default bound. The kind of the bound is in the name.

    Discrete probabilities of levels and densities have different names: `bits-elbo` and `bits-elbo-density`.
    """
    if not isinstance(model, HasBound):
        return []
    try:
        bounds = held_out(model, data, progress=progress)
    except NoLikelihoodError:  # `ancestral evaluate --likelihood` says why
        return []
    nats, bits = estimates(bounds, data.spec.levels)
    kind, discrete = bounds[0].kind, bounds[0].discrete
    side = {"lower": "upper bound of", "exact": "estimate of"}[bounds[0].direction]
    meaning = f"{side} the bits a dimension of held-out data ({kind}, {'levels' if discrete else 'density'})"
    what = f"{kind}{'' if discrete else '-density'}"
    return [
        Metric(f"bits-{what}", bits, None, "lower", meaning, "bits"),
        Metric(f"nats-{what}", nats, None, "higher", f"log-likelihood of held-out data in nats ({kind})", "nats"),
    ]
