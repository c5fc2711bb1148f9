"""Likelihoods and their bounds, which say what kind they are, which way they bound, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["elbo", "iwae", "vlb", "ode", "exact"]


@dataclass(frozen=True)
class Bound:
    """log p(x), or a bound of it, per sample in nats.

    value: `(n,)`, float64 on the CPU, as all its tensors are. kind: how it was computed. direction: "lower" (value <= log p in
    expectation), "exact" (up to the solver's error). std_err: of each value as an estimate `(n,)`, None where nothing was
    drawn, infinite where it is not known. terms: parts that add up to the value, by name. discrete: whether it is the
    probability of levels, not a density; the two are never compared. dimensions: D, numbers in a sample. nfe: evaluations of
    the network for each sample. table: columns of what each noise level adds, averaged over samples, where the bound has such
    parts.

    A std_err is estimated from the k draws of one sample, so of few draws it is no interval. Of normal draws value +- 2 std_err
    holds the expectation in .70 of cases at k = 2, .91 at 8, .95 at 32 (Student's t), and of skewed draws in fewer: a `vlb` on
    a mixture in .57, .84 and .93. The error of the mean over n samples, sqrt(sum std_err^2)/n, can be trusted if n is large.
    """

    value: Tensor
    kind: Kind
    direction: Literal["lower", "exact"]
    dimensions: int
    discrete: bool = False
    std_err: Tensor | None = None
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    nfe: int = 0
    table: Mapping[str, Tensor] = field(default_factory=dict)

    def plus(self, name: str, nats: float) -> Bound:
        """The bound with a constant term more, such as the change of units."""
        terms = {**self.terms, name: torch.full_like(self.value, nats)}
        return replace(self, value=self.value + nats, terms=terms)

    def mean(self) -> tuple[float, float]:
        """The mean over samples and its standard error over the choice of samples."""
        v = self.value.double()
        return v.mean().item(), (v.std().item() / math.sqrt(len(v)) if len(v) > 1 else math.inf)

    def bits_per_dim(self, levels: int | None = None) -> Tensor:
        """-value / (D log 2) `(n,)`. levels: of data stored as whole levels and scaled to [0, 1], whose density refers to
        that scale: adds log2(levels), so that uniform levels cost exactly log2(levels) bits. Discrete bounds need none.
        """
        bits = -self.value / (self.dimensions * math.log(2))
        return bits + math.log2(levels) if levels is not None and not self.discrete else bits


def elbo(reconstruction: Tensor, divergence: Tensor, dimensions: int, discrete: bool = False) -> Bound:
    """The evidence lower bound, E log p(x | z) - KL(q || p), from k draws.

    reconstruction: log p(x | z_i) `(k, n)`. divergence: log q(z_i | x) - log p(z_i), or the KL itself k times.
    """
    reconstruction, divergence = reconstruction.cpu().double(), divergence.cpu().double()
    k = len(reconstruction)
    log_w = reconstruction - divergence
    value = log_w.mean(0)
    error = log_w.std(0) / math.sqrt(k) if k > 1 else torch.full_like(value, math.inf)
    terms = {"reconstruction": reconstruction.mean(0), "kl": -divergence.mean(0)}
    return Bound(value, "elbo", "lower", dimensions, discrete, error, terms)


def iwae(reconstruction: Tensor, divergence: Tensor, dimensions: int, discrete: bool = False) -> Bound:
    """Log 1/k sum_i w_i, w_i = p(x, z_i)/q(z_i | x) (Burda et al. 2016, arXiv:1509.00519, eq. 8); arguments as of `elbo`, the
    divergence of each draw. Its error is that of log mean w by the delta method; terms: the ELBO and what the k draws gain.
    """
    log_w = reconstruction.cpu().double() - divergence.cpu().double()
    k = len(log_w)
    value = log_w.logsumexp(0) - math.log(k)
    w = (log_w - value).exp()
    error = w.std(0) / math.sqrt(k) if k > 1 else torch.full_like(value, math.inf)
    terms = {"elbo": log_w.mean(0), "gain": value - log_w.mean(0)}
    return Bound(value, "iwae", "lower", dimensions, discrete, error, terms)
