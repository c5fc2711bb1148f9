"""The health check of a GAN: numbers, and findings in plain words.

They are compared with the equilibrium: D = 1/2 everywhere, -2 V = log 4, JSD(p, q) = 0. For coverage, take the ball around each
held-out sample to its k-th neighbour among n real ones. For n samples of the same distribution, the share 1 - 2^-k of these
balls contains a sample (Naeem et al. 2020, arXiv:2002.09797).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, adaptive_avg_pool2d, logsigmoid

from ancestral.models.capabilities import Diagnosis
from ancestral.models.objectives import Minimax, NonSaturating, Objective, Relativistic, Wasserstein

EARLY = 500  # turns of the generator before the first finding, since all numbers look bad at first
LOOK = 64  # samples among which distinct ones are counted
NEIGHBOURS = 5
SIDE = 8  # side to which pictures are reduced before distances are measured, so that these are of content, not of noise


@dataclass(frozen=True)
class Standing:
    """The inputs of the check. real, fake, held_out: D's outputs `(n,)`. x: held-out data, y: samples, in model units."""

    objective: Objective
    real: Tensor
    fake: Tensor
    held_out: Tensor
    x: Tensor
    y: Tensor
    turns: int
    augmented: bool

    def diagnosis(self) -> Diagnosis:
        real, fake, held_out = (out.cpu().double() for out in (self.real, self.fake, self.held_out))
        slope, shift = calibration(held_out, fake)
        exact = self.objective.logits == "exact"
        a, b = (1.0, 0.0) if exact else (slope, shift)
        d_real, d_fake, d_held_out = ((a * out + b).sigmoid() for out in (real, fake, held_out))
        x, y = reduced(self.x.cpu()), reduced(self.y.cpu())
        near = spacing(x[:LOOK]) / 4
        numbers = {
            "accuracy_real": right(d_real),
            "accuracy_fake": right(1 - d_fake),
            "accuracy_held_out": right(d_held_out),
            "d_real": d_real.mean().item(),
            "d_fake": d_fake.mean().item(),
            "log4": cost(a * held_out + b, a * fake + b),
            "js": jensen_shannon(slope * held_out + shift, slope * fake + shift),
            "coverage": coverage(x, y),
            "distinct": float(distinct(y[:LOOK], near)),
            "duplicates": share(neighbours(y, y, skip_self=True) <= near),
        }
        findings, failed = self._findings(numbers, distinct(x[:LOOK], near))
        line = (
            f"D real {numbers['accuracy_real']:.0%} held-out {numbers['accuracy_held_out']:.0%} fake "
            f"{numbers['accuracy_fake']:.0%}  JS {numbers['js']:.2f}  cover {numbers['coverage']:.0%}"
        )
        return Diagnosis(numbers, line, findings, failed)

    def _findings(self, of: dict[str, float], distinct_real: int) -> tuple[tuple[str, ...], str | None]:
        findings: list[str] = []
        failed = None
        if self.turns < EARLY:
            return (), None
        n, d = len(self.y[:LOOK]), int(of["distinct"])
        other = "" if isinstance(self.objective, Relativistic) else "set model.objective=relativistic, or "
        collapsed = d < distinct_real / 4
        if collapsed:
            said = f"the generator has collapsed: {n} samples, {d} distinct"
            findings.append(f"{said}; {other}raise model.r1 and model.r2, or lower train.lr")
            failed = said if d <= max(1, distinct_real // 16) else None
        if isinstance(self.objective, Minimax) and of["d_fake"] < 0.01:
            said = f"the discriminator wins: D(G(z)) = {of['d_fake']:.1g}"
            if not isinstance(self.objective, NonSaturating):
                findings.append(f"{said} and the minimax gradient has vanished; use non-saturating or R1: model.r1=1")
                failed = failed or (findings[-1] if of["d_fake"] < 1e-3 else None)
            else:
                findings.append(f"{said}; slow it down with R1: model.r1=1")
        elif of["js"] > 0.95 * math.log(2) and not isinstance(self.objective, Wasserstein):  # whose critic cannot be too good
            findings.append(
                "the discriminator wins: it recognises every sample, and its gradient teaches the generator little; "
                "raise model.r1 and model.r2, or lower train.lr"
            )
        if of["accuracy_real"] - of["accuracy_held_out"] > 0.25:
            remedy = "train for less, or gather more data" if self.augmented else "set model.augment=0.5, or gather more data"
            findings.append(
                f"the discriminator has memorised the training samples: it classifies {tens(of['accuracy_real'])} of them as "
                f"real, and {tens(of['accuracy_held_out'])} of held-out ones; {remedy}"
            )
        if not collapsed and of["coverage"] < 0.5:
            findings.append(
                f"the generator leaves out part of the data: {tens(of['coverage'])} of held-out samples have a generated "
                f"sample nearby, and a perfect generator has {1 - 2**-NEIGHBOURS:.0%}; {other}train longer"
            )
        return tuple(findings), failed


def cost(real: Tensor, fake: Tensor) -> float:
    """Return -2 V = -E log D(x) - E log(1 - D(G(z))) of logits. It is log 4 at the equilibrium."""
    return -(logsigmoid(real).mean() + logsigmoid(-fake).mean()).item()


def jensen_shannon(real: Tensor, fake: Tensor) -> float:
    """Return V + log 2 in nats, at most log 2. It is the divergence at the best D, and less at any other D."""
    return min(max(math.log(2) - cost(real, fake) / 2, 0.0), math.log(2))


def calibration(real: Tensor, fake: Tensor, rounds: int = 30) -> tuple[float, float]:
    """Return (a, b), a >= 0, for which sigmoid(a l + b) separates real from fake best (Platt 1999), by Newton's method.

    The logit of a discriminator need not be log p/q: relativistic ones leave a constant free, and others also a scale.
    """
    both = torch.cat([real, fake])
    centre, scale = both.mean(), both.std().clamp(min=1e-9)
    l = (both - centre) / scale
    truth = torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    design = torch.stack([l, torch.ones_like(l)], 1)
    w = torch.zeros(2, dtype=l.dtype)
    ridge = 1e-3 * torch.eye(2, dtype=l.dtype)  # keeps a finite if D makes no error
    for _ in range(rounds):
        d = (design @ w).sigmoid()
        slope = design.T @ (d - truth) / len(l) + ridge @ w
        curvature = (design * (d * (1 - d))[:, None]).T @ design / len(l) + ridge
        w = w - torch.linalg.solve(curvature, slope)
    a, b = w.tolist()
    if a < 0:  # worse than random answers
        return 0.0, math.log(len(real) / len(fake))
    return a / scale.item(), b - a * (centre / scale).item()


def reduced(x: Tensor) -> Tensor:
    """Return samples as vectors `(n, d)`. Pictures are averaged down to sides of at most `SIDE`, signals to 8 times that."""
    x = x.float()
    if x.ndim == 4:
        x = adaptive_avg_pool2d(x, (min(SIDE, x.shape[2]), min(SIDE, x.shape[3])))
    elif x.ndim == 3:
        x = adaptive_avg_pool1d(x, min(8 * SIDE, x.shape[2]))
    return x.flatten(1)


def neighbours(x: Tensor, y: Tensor, *, skip_self: bool = False) -> Tensor:
    """Return the distance `(n,)` of each of x to the nearest of y. skip_self: for y equal to x."""
    distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return (distance.fill_diagonal_(math.inf) if skip_self else distance).min(1).values


def spacing(x: Tensor) -> float:
    """Return the median distance of samples to their nearest neighbours."""
    return neighbours(x, x, skip_self=True).median().item()


def coverage(x: Tensor, y: Tensor, k: int = NEIGHBOURS) -> float:
    """Return the share of x that have one of y within the distance of their own k-th neighbour."""
    k = min(k, len(x) - 1)
    if k < 1:
        return 1.0
    own = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    radius = own.kthvalue(k + 1, 1).values  # the nearest is x itself
    return share(neighbours(x, y) <= radius)


def distinct(x: Tensor, near: float) -> int:
    """Return how many samples remain if those within `near` of an earlier one are left out."""
    kept: list[Tensor] = []
    for sample in x:
        if not kept or (torch.stack(kept) - sample).norm(dim=1).min().item() > near:
            kept.append(sample)
    return len(kept)


def right(d: Tensor) -> float:
    """Return the share of right answers. D = 1 is a right answer, and D = 1/2 counts half."""
    return share(d > 0.5) + share(d == 0.5) / 2


def share(which: Tensor) -> float:
    return which.double().mean().item()


def tens(part: float) -> str:
    """Write a share in steps of ten percent, so that a sentence does not change with noise."""
    return f"{round(part * 10) * 10}%"
