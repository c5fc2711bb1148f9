"""Likelihoods of held-out data, for families that have one."""

from __future__ import annotations

import math

import torch

from ancestral.data import DataSet
from ancestral.evaluation.extractors.base import Progress
from ancestral.evaluation.metrics import Estimate
from ancestral.evaluation.result import Metric
from ancestral.families import GenerativeModel, HasBound, seeds_from
from ancestral.randomness import SampleNoise

N = 1000
BATCH = 250


def likelihood(model: GenerativeModel, data: DataSet, progress: Progress) -> list[Metric]:
    """Bits a dimension and nats of at most 1,000 held-out samples: what the model's own bound says, with its kind in the name.

    Discrete probabilities of levels and densities are never in one column: `bits-elbo` and `bits-elbo-density`.
    """
    if not isinstance(model, HasBound):
        return []
    rows = torch.linspace(0, len(data.test) - 1, min(N, len(data.test))).long()
    nats, bits = [], []
    for part in rows.split(BATCH):
        batch = data.batch(part, "test").to(model.device)
        condition = {name: batch.conditions[name] for name in model.conditioner.kinds if name in batch.conditions}
        noise = SampleNoise(seeds_from(0, len(part)), model.device)
        with model.inference():
            bound = model.log_prob(batch.x, condition or None, noise=noise)
        nats.append(bound.value.double().cpu())
        bits.append(bound.bits_per_dim(data.spec.levels).double().cpu())
        progress(f"likelihood: {sum(map(len, nats)):,} of {len(rows):,}")
    what = f"{bound.kind}{'' if bound.discrete else '-density'}"
    side = {"lower": "upper bound of", "exact": "estimate of"}[bound.direction]
    meaning = f"{side} the bits a dimension of held-out data ({bound.kind}, {'levels' if bound.discrete else 'density'})"
    n = len(rows)
    found = []
    for name, values, text, better in (
        (f"bits-{what}", torch.cat(bits), meaning, "lower"),
        (f"nats-{what}", torch.cat(nats), f"log-likelihood of held-out data in nats ({bound.kind})", "higher"),
    ):
        estimate = Estimate(values.mean().item(), values.std().item() / math.sqrt(n), n)
        found.append(Metric(name, estimate, None, "lower" if better == "lower" else "higher", text))
    return found
