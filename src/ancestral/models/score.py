"""Score matching through noise levels (Song & Ermon 2019, arXiv:1907.05600; Song et al. 2021, arXiv:2011.13456).

One network s(x_t, t) learns the score of the data at every noise level, p_t = p * N(0, sigma_t^2 I) shrunk by alpha_t:

    J = E_t [ lambda(t) E 1/2 |s(x_t, t) - grad log p_t(x_t)|^2 ]                            explicit, not to be had

which up to terms without parameters is

    E 1/2 |s + eps / sigma|^2,   since grad log q(x_t | x) = -eps / sigma            denoising (Vincent 2011, eq. 11)
    E [ 1/2 |s|^2 + tr(grad s) ]                                                     exact (Hyvarinen 2005, theorem 1)
    E [ 1/2 |s|^2 + v' (grad s) v ],   v random signs                                sliced (Song et al. 2019, eq. 8)

The forward process is the variance-exploding one, at a geometric sequence of levels or in continuous time, VP, sub-VP or any
other. A score model *is* a diffusion model whose network predicts sigma s = -eps; `ancestral.models.denoising` says how
both are sampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner
from ancestral.configuration import configurable
from ancestral.denoiser import column
from ancestral.errors import UsageError
from ancestral.models.denoising import DenoisingModel
from ancestral.noise import Noise
from ancestral.schedules import VE, Levels, Schedule
from ancestral.transfer import onto

Matching = Literal["denoising", "sliced", "exact"]
Lambda = Literal["sigma2", "likelihood"]


@configurable
class ScoreModel(DenoisingModel):
    """A noise-conditional score network.

        model = ScoreModel(network, shape=(2,), schedule=VE(0.01, 20.0))

    Args:
        network: any module (z `(n, *shape)`, logsnr `(n,)`, context) -> sigma s `(n, *shape)`, see `DenoisingModel`.
        shape: of one sample.
        schedule: the forward process; None: `VE(0.01, largest_noise(dimensions))`.
        matching: which of the three forms of J.
        weight: lambda(t), see `weights`.
        levels: of data that are stored as whole levels, for likelihoods.
        mean, std, bounds: the units of the data, see `Standardize`.
        conditioner: encodes the conditions; None: the model has none.

    Raises:
        UsageError: for exact and sliced matching of images and signals, since they differentiate the network twice, and for a
            network that takes other inputs.
    """

    family = "score"

    def __init__(
        self,
        network: nn.Module,
        shape: Sequence[int],
        *,
        schedule: Schedule | None = None,
        matching: Matching = "denoising",
        weight: Lambda = "sigma2",
        levels: int | None = None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        bounds: tuple[float, float] | None = None,
        conditioner: Conditioner | None = None,
    ):
        super().__init__(
            network,
            shape,
            schedule=VE(0.01, largest_noise(math.prod(shape))) if schedule is None else schedule,
            target="score",
            levels=levels,
            mean=mean,
            std=std,
            bounds=bounds,
            conditioner=conditioner,
        )
        if matching != "denoising" and len(shape) > 1:
            raise UsageError(f"{matching} score matching is for vectors: choose model.matching=denoising")
        self.matching: Matching = matching
        self.weight: Lambda = weight

    @property
    def compilable(self) -> tuple[nn.Module, ...]:
        return super().compilable if self.matching == "denoising" else ()

    def losses(self, batch: Batch, player: str, noise: Noise) -> dict[str, Tensor]:
        """Return lambda(t) J for one t per sample, {"total": `(n,)`}, summed over dimensions."""
        x, eps = self.standardize.normalize(batch.x), noise.normal(self.shape)
        level = self.schedule.at(self.schedule.noisy(noise.stratified()))
        alpha, sigma = column(level.alpha, x), column(level.sigma, x)
        x_t = alpha * x + sigma * eps
        context = self.conditioner(batch.conditions, len(batch), noise)
        if self.matching == "denoising":
            s = self.denoiser(x_t, level, context).score
            j = 0.5 * (s + eps / sigma).flatten(1).square().sum(1)
        else:
            with torch.enable_grad():
                x_t.requires_grad_()
                s = self.denoiser(x_t, level, context).score
                j = 0.5 * s.square().sum(1) + (self._trace(s, x_t) if self.matching == "exact" else self._slice(s, x_t, noise))
        return {"total": onto(self.weights(level).to(j.dtype), j.device) * j}

    def weights(self, level: Levels) -> Tensor:
        """Return lambda(t) `(n,)` float64.

        sigma2:     sigma^2, with which a level's loss does not depend on its scale (Song & Ermon 2019, section 4.2).
        likelihood: g^2, with which J bounds the Kullback-Leibler divergence of the SDE's samples from the data, in nats
                    (Song et al. 2021, arXiv:2101.09258, theorem 1).
        """
        return level.sigma**2 if self.weight == "sigma2" else self.schedule.diffusion2(level.t)

    @staticmethod
    def _trace(s: Tensor, x_t: Tensor) -> Tensor:
        """Return tr(grad s), by one derivative per dimension."""
        rows = [torch.autograd.grad(s[:, j].sum(), x_t, create_graph=True)[0][:, j] for j in range(s.shape[1])]
        return torch.stack(rows).sum(0)

    @staticmethod
    def _slice(s: Tensor, x_t: Tensor, noise: Noise) -> Tensor:
        """Return v' (grad s) v, whose mean over random signs v is the trace."""
        v = torch.where(noise.uniform(s.shape[1:]) < 0.5, -1.0, 1.0).to(s)
        (product,) = torch.autograd.grad((s * v).sum(), x_t, create_graph=True)
        return (product * v).sum(1)


def largest_noise(dimensions: int) -> float:
    """Return about the largest distance of two samples with unit variance in each dimension: 2 sqrt(2 D), at most 80.

    With so much noise a sample can reach any other (Song & Ermon 2020, arXiv:2006.09011, technique 1).
    """
    return min(80.0, 2 * math.sqrt(2 * dimensions))


def geometric_count(dimensions: int, ratio: float) -> int:
    """Return the number of geometric levels from 1 to `ratio` whose neighbours share half of their mass (ibid., technique 2):

    Phi(sqrt(2D) (g - 1) + 3g) - Phi(sqrt(2D) (g - 1) - 3g) = 1/2,      g at most 1.5
    """
    phi = torch.special.ndtr
    g = torch.linspace(1.001, 1.5, 5000, dtype=torch.float64)
    reach = math.sqrt(2 * dimensions) * (g - 1)
    overlapping = g[(phi(reach + 3 * g) - phi(reach - 3 * g)) >= 0.5]
    step = overlapping[-1].item() if len(overlapping) else 1.001
    return 1 + math.ceil(math.log(ratio) / math.log(step))
