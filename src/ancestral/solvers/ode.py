"""Solvers of the probability-flow ODE, dy/du = eps with y = x/alpha, u = sigma/alpha."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ancestral.builtin import built_in
from ancestral.noise import Noise
from ancestral.schedules import Level
from ancestral.solvers.base import Counted, Denoise, Solver, State, move

Slope = Callable[[Tensor, float], Tensor]


@built_in("solver", "euler")
class Euler(Solver):
    """y_s = y_t + (u_s - u_t) eps. One evaluation a step, global error O(h); the same map as DDIM."""

    order = 1

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: None, noise: Noise) -> tuple[Tensor, None]:
        return move(denoise(x, t), s), None


@built_in("solver", "heun")
class Heun(Solver):
    """Euler's step, then the trapezoidal correction with the slope at its end.

    Two evaluations a step but for the ends, at most `2 * steps - 1` in all. Global error O(h^2).
    Source: Karras et al. 2022 (arXiv:2206.00364), Algorithm 1.
    """

    order = 2

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: None, noise: Noise) -> tuple[Tensor, None]:
        p = denoise(x, t)
        x_s = move(p, s)
        if s.sigma > 0 and t.alpha > 0:  # no slope exists at sigma = 0, and u is infinite at alpha = 0
            q = denoise(x_s, s)
            x_s = x_s + s.alpha * (s.u - t.u) / 2 * (q.eps - p.eps)
        return x_s, None


def angle(level: Level) -> float:
    """Return theta = atan(sigma / alpha), from 0 (data) to pi/2 (noise).

    For z = x_t / sqrt(alpha^2 + sigma^2) every schedule is the rotation z = cos(theta) x + sin(theta) eps, and the
    probability-flow ODE is dz/dtheta = v, which is finite at both ends.
    """
    return math.atan2(level.sigma, level.alpha)


def at_angle(theta: float, t: float = 0.0) -> Level:
    """Return the level of that angle at unit scale."""
    return Level(t, max(math.cos(theta), 0.0) if theta < math.pi / 2 - 1e-12 else 0.0, math.sin(theta))


@built_in("solver", "rk4")
@dataclass(frozen=True)
class RungeKutta4(Solver):
    """The classical Runge-Kutta step of dz/dtheta = v. Four evaluations a step, global error O(h^4).

    The last step, into sigma = 0 where v is undefined, is Euler's.
    """

    order = 4

    def step(self, denoise: Denoise, x: Tensor, t: Level, s: Level, memory: None, noise: Noise) -> tuple[Tensor, None]:
        if s.sigma == 0:
            return move(denoise(x, t), s), None
        a, b = angle(t), angle(s)
        z = rk4(lambda z, theta: denoise(z, at_angle(theta, t.t)).v, x / math.hypot(t.alpha, t.sigma), a, b)
        return z * math.hypot(s.alpha, s.sigma), None


def rk4(slope: Slope, z: Tensor, a: float, b: float) -> Tensor:
    """Make one step of dz/da = slope(z, a) from a to b (Kutta 1901)."""
    h, middle = b - a, (a + b) / 2
    k1 = slope(z, a)
    k2 = slope(z + h / 2 * k1, middle)
    k3 = slope(z + h / 2 * k2, middle)
    k4 = slope(z + h * k3, b)
    return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def dormand_prince(slope: Slope, z: Tensor, at: Sequence[float], rtol: float, atol: float) -> Tensor:
    """Solve dz/da = slope(z, a) by Dormand & Prince's pair of orders 5 and 4 (1980), which chooses its own steps.

    `z` is the value at the first of the times `at`. Returns the values at all times, `(len(at), *z.shape)`.
    """
    from torchdiffeq import odeint

    times = torch.tensor(at, dtype=torch.float64 if z.device.type == "cpu" else torch.float32, device=z.device)
    path: Tensor = odeint(
        lambda a, z: slope(z, a.item()),
        z,
        times,
        rtol=rtol,
        atol=atol,
        method="dopri5",
        options={"dtype": times.dtype, "step_t": times[-1:]},  # never beyond the end
    )
    return path


@built_in("solver", "adaptive")
@dataclass(frozen=True)
class DormandPrince(Solver):
    """The same ODE by `dormand_prince`. The last step, into sigma = 0, is Euler's. States are reported at the given levels.

    The steps are chosen for a whole batch: samples of different batches agree to the tolerance, not to the bit.
    """

    rtol: float = 1e-3
    atol: float = 1e-3
    per_sample = False

    def __call__(self, denoise: Denoise, x: Tensor, levels: Sequence[Level], noise: Noise) -> Iterator[State]:
        counted = Counted(denoise)
        total = len(levels) - 1
        yield State(x, levels[0], None, 0, 0, total)
        noisy = [level for level in levels if level.sigma > 0]
        z = x / math.hypot(levels[0].alpha, levels[0].sigma)
        if len(noisy) > 1:
            thetas = [angle(level) for level in noisy]
            path = dormand_prince(lambda z, theta: counted(z, at_angle(theta)).v, z, thetas, self.rtol, self.atol)
            for done, (level, z) in enumerate(zip(noisy[1:], path[1:], strict=True), start=1):
                yield State(z * math.hypot(level.alpha, level.sigma), level, counted.last, counted.nfe, done, total)
        if levels[-1].sigma == 0:
            last = noisy[-1]
            p = counted(z * math.hypot(last.alpha, last.sigma), last)
            yield State(move(p, levels[-1]), levels[-1], p, counted.nfe, total, total)
