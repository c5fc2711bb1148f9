"""The log-likelihood of the probability-flow ODE.

The ODE maps the data's density to the prior's (Chen et al. 2018, arXiv:1806.07366; Song et al. 2021, eq. 39):

    log p(z_0) = log N(z_1; 0, I) + int_0^1 tr(d slope / dz) dtau,      x = z_0 / cos(theta_0),

with z, tau and the slope as in `ancestral.solvers.flow`. The trace is exact, or an average of e' (d slope/dz) e over random
signs e (Hutchinson 1989). The average is exact if the Jacobian is diagonal, as for Gaussian data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ancestral.likelihood.bound import Bound
from ancestral.likelihood.lattice import Lattice
from ancestral.noise import Noise
from ancestral.schedules import Schedule
from ancestral.solvers.base import Denoise
from ancestral.solvers.flow import ProbabilityFlow, solve
from ancestral.solvers.ode import Slope

Divergence = Literal["exact", "hutchinson"]
CHEAP = 16  # up to this number of dimensions the full trace is computed
Trace = Callable[[Tensor, Tensor], Tensor]


def ode_log_prob(
    denoise: Denoise,
    schedule: Schedule,
    x: Tensor,
    noise: Noise | None = None,
    *,
    divergence: Divergence | None = None,
    steps: int = 32,
    tolerance: float | None = None,
    draws: int = 1,
    lattice: Lattice | None = None,
    least: float | None = None,
) -> Bound:
    """Return the log-density of samples x by Runge-Kutta steps of order 4.

    It is the density of the ODE's samples, that is of x_t / alpha_t at the schedule's smallest noise level.

    Args:
        denoise: the denoiser.
        schedule: the schedule.
        x: samples `(n, *shape)`, in model units.
        noise: the randomness; it may be None if nothing is drawn.
        divergence: "exact" takes D derivatives per evaluation, "hutchinson" one; None: exact up to 16 dimensions.
        steps: the number of steps.
        tolerance: choose adaptive steps with this tolerance instead.
        draws: the number of draws of signs and of dequantisation, over which the value is averaged. The standard error is
            infinite, which means not known, for one draw, and for a sample whose draws have the same signs up to a factor -1:
            these give equal traces. In few dimensions this is frequent.
        lattice: the levels of x; x is then dequantised to a density on its cells.
        least: the noise sigma / alpha of x, for the density of noisy data.
    """
    exact = divergence == "exact" or (divergence is None and x[0].numel() <= CHEAP)
    if exact and lattice is None:
        draws = 1  # nothing is drawn
    flow = ProbabilityFlow(denoise, schedule, least)
    parts, drawn = [], []
    with torch.autocast(x.device.type, enabled=False):
        for _ in range(draws):
            z, signs = x, None
            if lattice is not None:
                z = lattice.fill(x, _drawn(noise).uniform(x.shape[1:]).to(x))
            if not exact:
                signs = torch.where(_drawn(noise).uniform(x.shape[1:]) < 0.5, -1.0, 1.0).to(x)
                drawn.append(signs.flatten(1) * signs.flatten(1)[:, :1])
            slope = _with_trace(flow.slope, x.shape, _full_trace if signs is None else _hutchinson(signs))
            parts.append(_integrate(flow, slope, z, steps, tolerance))
    prior, volume = (torch.stack(part) for part in zip(*parts, strict=True))
    value = prior + volume
    if exact and lattice is None:
        error = None
    else:
        error = value.std(0) / math.sqrt(draws) if draws > 1 else torch.full_like(value[0], math.inf)
        if drawn and x[0].numel() > 1:  # in one dimension e' A e is the trace
            equal = (torch.stack(drawn) == drawn[0]).flatten(2).all(2).all(0).cpu()
            error = torch.where(equal, math.inf, error)
    terms = {"prior": prior.mean(0), "volume": volume.mean(0)}
    return Bound(value.mean(0), "ode", "exact", x[0].numel(), False, error, terms, nfe=flow.denoise.nfe)


def _integrate(flow: ProbabilityFlow, slope: Slope, x: Tensor, steps: int, tolerance: float | None) -> tuple[Tensor, Tensor]:
    """Return log N(z_1; 0, I) and log |dz_1/dx|, `(n,)` float64."""
    scale = flow.level(0.0).alpha
    start = torch.cat([(x * scale).flatten(1), x.new_zeros(len(x), 1)], 1)
    end = solve(slope, start, 0.0, 1.0, steps=steps, tolerance=tolerance).cpu().double()
    z, trace = end[:, :-1], end[:, -1]
    d = z.shape[1]
    return -0.5 * (z.square().sum(1) + d * math.log(2 * math.pi)), trace + d * math.log(scale)


def _with_trace(slope: Slope, shape: torch.Size, trace: Trace) -> Slope:
    """Return the joint slope of z and of the integral of the trace, `(n, D + 1)`."""

    def both(state: Tensor, tau: float) -> Tensor:
        with torch.enable_grad():
            z = state[:, :-1].detach().view(shape).requires_grad_()
            dz = slope(z, tau)
            t = trace(dz, z)
        return torch.cat([dz.detach().flatten(1), t.detach()[:, None]], 1)

    return both


def _full_trace(dz: Tensor, z: Tensor) -> Tensor:
    """Return sum_j d dz_j / d z_j `(n,)`, with a derivative for each of the D dimensions."""
    flat = dz.flatten(1)
    d = flat.shape[1]
    rows = [torch.autograd.grad(flat[:, j].sum(), z, retain_graph=j + 1 < d)[0].flatten(1)[:, j] for j in range(d)]
    return torch.stack(rows).sum(0)


def _hutchinson(signs: Tensor) -> Trace:
    def trace(dz: Tensor, z: Tensor) -> Tensor:
        (product,) = torch.autograd.grad((dz * signs).sum(), z)
        return (product * signs).flatten(1).sum(1)

    return trace


def _drawn(noise: Noise | None) -> Noise:
    if noise is None:
        raise ValueError("random signs and dequantisation need noise: give noise=")
    return noise
