"""The prediction of a denoiser for x_t = alpha x + sigma eps, in all its equivalent forms.

A network may be trained to output the clean sample, the noise, or a mixture of the two. Given x_t, each determines all others:

    x     = (x_t - sigma eps) / alpha
    eps   = (x_t - alpha x) / sigma
    v     = alpha eps - sigma x              (Salimans & Ho 2022, arXiv:2202.00512)
    velocity  = eps - x                          the velocity dx_t/dt of the straight line x_t = (1 - t) x + t eps
    score = -eps / sigma                     grad log p(x_t), by Tweedie's formula x = (x_t + sigma^2 score) / alpha

Solvers, losses and metrics use a `Prediction`. They do not depend on the form for which the network was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

PredictionType = Literal["eps", "x", "v", "velocity", "score"]
PREDICTION_TYPES: tuple[PredictionType, ...] = get_args(PredictionType)


@dataclass(frozen=True)
class Prediction:
    """A denoiser's estimate of the clean sample at one noise level.

    x, x_t: `(n, *shape)`. alpha, sigma: floats, or tensors that broadcast against x.
    The other forms are properties. All divide by sigma and are undefined for sigma = 0.
    """

    x: Tensor
    x_t: Tensor
    alpha: float | Tensor
    sigma: float | Tensor

    @property
    def eps(self) -> Tensor:
        return (self.x_t - self.alpha * self.x) / self.sigma

    @property
    def v(self) -> Tensor:
        return self.alpha * self.eps - self.sigma * self.x

    @property
    def velocity(self) -> Tensor:
        return self.eps - self.x

    @property
    def score(self) -> Tensor:
        return -self.eps / self.sigma

    def read(self, form: PredictionType) -> Tensor:
        """Return the form of that name."""
        value: Tensor = getattr(self, form)
        return value

    @classmethod
    def of(cls, form: PredictionType, value: Tensor, x_t: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Prediction:
        """Make the prediction whose given form is `value`. Raises ValueError for an unknown form."""
        if form == "x":
            x = value
        elif form == "eps":
            x = (x_t - sigma * value) / alpha
        elif form == "v":
            x = (alpha * x_t - sigma * value) / (alpha**2 + sigma**2)
        elif form == "velocity":
            x = (x_t - sigma * value) / (alpha + sigma)
        elif form == "score":
            x = (x_t + sigma**2 * value) / alpha
        else:
            raise ValueError(f"unknown prediction type {form!r}: choose {', '.join(PREDICTION_TYPES)}")
        return cls(x, x_t, alpha, sigma)
