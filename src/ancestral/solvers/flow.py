"""The probability-flow ODE as a map between data and noise.

On the unit circle z = cos(theta) x + sin(theta) eps, where every schedule is the same rotation, it is dz/dtheta = v(z, theta).
Time is tau in [0, 1], theta = (a + tau (b - a))^4 with a^4, b^4 the angles of the schedule's least and greatest noise: even
steps of tau are fine where noise is low, as Karras et al. 2022 (eq. 5) space theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ancestral.schedules import U_RANGE, Level, Schedule
from ancestral.solvers.base import Counted, Denoise
from ancestral.solvers.ode import Slope, angle, at_angle, dormand_prince, rk4

RHO = 4.0


class ProbabilityFlow:
    """The flow between data x = z_0 / cos(theta_0) and noise z_1 ~ N(0, I), in model units.

    `least` is the noise sigma / alpha of x. None: that of the schedule's first noisy time, but at least 0.002, because the
    network has not learned less noise.
    """

    def __init__(self, denoise: Denoise, schedule: Schedule, least: float | None = None):
        self.denoise = Counted(denoise)
        first, last = schedule.levels(torch.tensor([schedule.t_min, 1.0], dtype=torch.float64))
        least = max(first.u, U_RANGE[0]) if least is None else least
        self.a = angle(Level(0.0, 1.0, least)) ** (1 / RHO)
        self.b = angle(last) ** (1 / RHO)

    def level(self, tau: float) -> Level:
        return at_angle((self.a + tau * (self.b - self.a)) ** RHO, tau)

    def slope(self, z: Tensor, tau: float) -> Tensor:
        """Return dz/dtau = v dtheta/dtau."""
        root = self.a + tau * (self.b - self.a)
        speed: float = RHO * (self.b - self.a) * root ** (RHO - 1)
        return speed * self.denoise(z, self.level(tau)).v

    def to_noise(self, x: Tensor, steps: int = 16) -> Tensor:
        """Return the noise z_1 from which `to_data` leads to x (Song et al. 2021, section 4.3)."""
        return solve(self.slope, x * self.level(0.0).alpha, 0.0, 1.0, steps=steps)

    def to_data(self, z: Tensor, steps: int = 16) -> Tensor:
        return solve(self.slope, z, 1.0, 0.0, steps=steps) / self.level(0.0).alpha


def solve(slope: Slope, z: Tensor, a: float, b: float, *, steps: int, tolerance: float | None = None) -> Tensor:
    """Solve dz/da = slope(z, a) from a to b and return z at b.

    The method is Runge-Kutta of order 4 in even steps, or with a tolerance Dormand-Prince's adaptive pair of orders 5 and 4.
    """
    if tolerance is not None:
        return dormand_prince(slope, z, (a, b), tolerance, tolerance)[-1]
    for i in range(steps):
        z = rk4(slope, z, a + (b - a) * i / steps, a + (b - a) * (i + 1) / steps)
    return z
