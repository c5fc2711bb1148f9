"""What a denoiser of every noise level is besides a sampler: a score, a likelihood, a code.

By Tweedie's formula (Robbins 1956; Efron 2011) the denoiser E[x | x_t] and the score are one function,

    grad log p(x_t) = (alpha_t E[x | x_t] - x_t) / sigma_t^2 = -E[eps | x_t] / sigma_t,

so that every diffusion model can be sampled by Langevin dynamics, SDE or ODE, and every score model is a diffusion model
(Song et al. 2021, arXiv:2011.13456).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ancestral.conditioning import Conditioner
from ancestral.denoiser import Denoiser
from ancestral.errors import UsageError
from ancestral.families.base import GenerativeModel, Scaling
from ancestral.gaussian import slerp
from ancestral.guidance import Conditional
from ancestral.likelihood import Bound, Lattice, ode_log_prob, vlb
from ancestral.prediction import Prediction
from ancestral.randomness import Noise
from ancestral.schedules import Chain, Level, Schedule
from ancestral.solvers import ProbabilityFlow

FLAT = 16  # dimensions up to which the ODE's exact likelihood is cheap
DRAWS = 32  # of the chain's steps for each sample: tens of seconds for a thousand images
CELL = 1 / 2  # of the levels' spacing is where their chain begins: below, a network pays for digits that levels do not have
Method = Literal["vlb", "ode"]


class DenoisingModel(GenerativeModel):
    """A denoiser and the schedule of its noise. levels: of data stored as whole levels in [0, 1], None for real data."""

    methods: tuple[Method, ...] = ("vlb", "ode")  # of `log_prob`

    def __init__(
        self,
        shape: Sequence[int],
        scaling: Scaling,
        conditioner: Conditioner,
        denoiser: Denoiser,
        schedule: Schedule,
        levels: int | None = None,
    ):
        super().__init__(shape, scaling, conditioner)
        self.denoiser = denoiser
        self.schedule = schedule
        self.levels = levels
        self.latent_shape = self.shape

    def denoise(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Prediction:
        """The prediction for x_t `(n, *shape)` in the models' units, at a level or at a time of the schedule."""
        return self._conditional(condition, len(x_t))(x_t, self._level(t))

    def score(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Tensor:
        """Grad log p(x_t), shaped as x_t; sigma > 0."""
        return self.denoise(x_t, t, condition).score

    def log_prob(self, x: Tensor, condition: Any = None, *, noise: Noise, method: Method | None = None, **how: Any) -> Bound:
        """Of samples `(n, *shape)` in the units of the data.

        vlb: the bound of a chain of 1,000 steps (`ancestral.likelihood.vlb`; its options in `how`), by 32 of them a sample; of
        the density, or of the probability of levels where the data have them: then the chain begins at half their spacing.
        ode: the density of the probability flow (`ode_log_prob`), of levels filled to [0, 1].
        None: ode for vectors of up to 16 real numbers, else vlb.
        Raises UsageError for another method.
        """
        method = method or ("ode" if len(self.shape) == 1 and self.dimensions <= FLAT and self.levels is None else "vlb")
        z, denoise, lattice = self.scaling.encode(x), self._conditional(condition, len(x)), self.lattice()
        if method == "vlb":
            least = 0.0 if lattice is None else CELL * lattice.spacing.min().item()
            bound = vlb(denoise, Chain.of(self.schedule, least=least), z, noise, lattice=lattice, **{"draws": DRAWS} | how)
        elif method == "ode":
            bound = ode_log_prob(denoise, self.schedule, z, noise, lattice=lattice, **how)
            if lattice is not None:
                bound = bound.plus("levels", self.dimensions * lattice.stretch)
        else:
            raise UsageError(f"unknown method of likelihood {method!r}: choose vlb or ode")
        if bound.discrete:
            return bound
        per_channel = self.dimensions / self.scaling.std.numel()
        return bound.plus("units", -per_channel * self.scaling.std.double().log().sum().item())

    def lattice(self) -> Lattice | None:
        """The levels of the data in the models' units."""
        limits = self.scaling.limits()
        if self.levels is None or limits is None:
            return None
        low, high = limits
        return Lattice((high - low) / (self.levels - 1), low, high)

    def encode(self, x: Tensor, condition: Any = None, steps: int = 16) -> Tensor:
        """The noise `(n, *shape)`, about N(0, I), from which the probability flow comes to samples in the units of the data."""
        with self.inference(), torch.autocast(x.device.type, enabled=False):
            return self._flow(condition, len(x)).to_noise(self.scaling.encode(x), steps)

    def decode(self, z: Tensor, condition: Any = None, steps: int = 16) -> Tensor:
        """The inverse of `encode`, up to the error of as many Runge-Kutta steps of order 4."""
        with self.inference(), torch.autocast(z.device.type, enabled=False):
            return self.scaling.decode(self._flow(condition, len(z)).to_data(z, steps))

    def between(self, a: Tensor, b: Tensor, n: int = 9, condition: Any = None, steps: int = 16) -> Tensor:
        """From sample a to b `(*shape)` in n pictures `(n, *shape)`, along the great circle between their noises."""
        z = self.encode(torch.stack([a, b]), condition, steps)
        shares = torch.linspace(0, 1, n, device=z.device)
        return self.decode(torch.cat([slerp(z[:1], z[1:], share) for share in shares]), condition, steps)

    def _flow(self, condition: Any, n: int) -> ProbabilityFlow:
        return ProbabilityFlow(self._conditional(condition, n), self.schedule)

    def _conditional(self, condition: Any, n: int) -> Conditional:
        return Conditional(self.denoiser, self.conditioner(self.conditioner.parse(condition, n), n))

    def _level(self, t: Level | float) -> Level:
        return t if isinstance(t, Level) else self.schedule.levels(torch.tensor([t], dtype=torch.float64))[0]
