"""Denoising diffusion (Sohl-Dickstein et al. 2015; Ho et al. 2020, arXiv:2006.11239), in discrete and continuous time.

The forward process q(x_t | x) = N(alpha_t x, sigma_t^2 I) is fixed. One network, shared by all t, learns to undo it from

    L = E_{x, t, eps} [ w(t) |x - x_hat(alpha_t x + sigma_t eps, t)|^2 ]                                              (1)

which with the weight of the evidence lower bound, w = -1/2 dSNR/dt, is the consistency term of the ELBO up to terms
without parameters (Kingma et al. 2021, eq. 16), and with w = SNR L_simple = |eps - eps_hat|^2 (Ho et al. 2020, eq. 14).
Sampling walks from x_1 ~ N(0, I) down to x_0 with any solver; Algorithm 2 of Ho et al. is `Ancestral(eta=1)`.
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
from ancestral.prediction import PredictionType
from ancestral.schedules import Chain, Levels, Linear, Schedule
from ancestral.transfer import onto

Weight = Literal["simple", "min-snr", "edm", "vlb"]
Times = Literal["uniform", "logit-normal", "log-normal"]


@configurable
class Diffusion(DenoisingModel):
    """Denoising diffusion: a denoiser of every noise level and a sampler.

        model = Diffusion(network, shape=(1, 28, 28), schedule=Linear(), target="velocity", mean=0.13, std=0.31, bounds=(0, 1))

    Args:
        network: any module (z `(n, *shape)`, logsnr `(n,)`, context) -> F `(n, *shape)`, see `DenoisingModel`.
        shape: of one sample.
        schedule: the forward process; None: `Linear()`.
        target: what F is: "eps", "x", "v", "velocity" or "score". sigma_data: of the target v.
        weight: w(t) of eq. 1, see `weights`.
        times: the density from which training draws t, see `draw_times`.
        levels: of data that are stored as whole levels, for likelihoods.
        mean, std, bounds: the units of the data, see `Standardize`.
        conditioner: encodes the conditions; None: the model has none.

    Raises:
        UsageError: if target, weight or times do not fit the schedule, or the network takes other inputs.
    """

    family = "diffusion"

    def __init__(
        self,
        network: nn.Module,
        shape: Sequence[int],
        *,
        schedule: Schedule | None = None,
        target: PredictionType = "velocity",
        sigma_data: float = 1.0,
        weight: Weight = "simple",
        times: Times = "uniform",
        levels: int | None = None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        bounds: tuple[float, float] | None = None,
        conditioner: Conditioner | None = None,
    ):
        schedule = Linear() if schedule is None else schedule
        super().__init__(
            network,
            shape,
            schedule=schedule,
            target=target,
            sigma_data=sigma_data,
            levels=levels,
            mean=mean,
            std=std,
            bounds=bounds,
            conditioner=conditioner,
        )
        self.weight: Weight = weight
        self.times: Times = times
        end = schedule.at(torch.ones(1))
        if self.denoiser.target in ("eps", "score") and end.alpha.item() < 1e-6:
            raise UsageError(
                f"a network that predicts {self.denoiser.target} cannot give x without signal (t = 1 of this schedule): choose "
                "target v, x or velocity, or the schedule ddpm, vp or ve"
            )
        if weight == "vlb" and times != "uniform":
            raise UsageError("the weight vlb is a bound only for uniform times: set times to uniform")

    def losses(self, batch: Batch, player: str, noise: Noise) -> dict[str, Tensor]:
        """Return eq. 1 for one t per sample, {"total": `(n,)`}, summed over dimensions."""
        x = self.standardize.normalize(batch.x)
        level = self.schedule.at(self.draw_times(noise))
        alpha, sigma = column(level.alpha, x), column(level.sigma, x)
        x_t = alpha * x + sigma * noise.normal(self.shape)
        context = self.conditioner(batch.conditions, len(batch), noise)
        x_hat = self.denoiser(x_t, level, context).x
        w = onto(self.weights(level).float(), x.device)
        return {"total": w * (x - x_hat).square().flatten(1).sum(1)}

    def weights(self, level: Levels) -> Tensor:
        """Return w(t) of eq. 1, `(n,)` float64, by name:

        simple:  1 in the space of the target: SNR for eps and score, 1 for x, 1 + s^2 SNR for v (eq. 1 of
                 `ancestral.denoiser`, whose s is sigma_data), ((alpha+sigma)/sigma)^2 for velocity.
        min-snr: min(SNR, 5) (Hang et al. 2023, arXiv:2303.09556).
        edm:     1 + s^2 SNR, as of v, with s = 1 for every other target: (sigma^2 + s^2)/sigma^2 in units of alpha = 1, so that
                 of data of deviation s each level's loss is the same for an untrained network (Karras et al. 2022, table 1).
        vlb:     -1/2 dSNR/dt, and in a chain T/2 (SNR_{i-1} - SNR_i). Its first step is the reconstruction, -log p(x | x_1) =
                 |x - x_hat|^2 / (2 beta_1) + const, with the weight T/(2 beta_1). So the mean over steps is the ELBO's.
        """
        alpha2, sigma2 = level.alpha**2, level.sigma**2
        snr = alpha2 / sigma2
        if self.weight == "min-snr":
            return snr.clamp(max=5.0)
        if self.weight == "edm":
            return 1 + self.denoiser.sigma_data**2 * snr
        if self.weight == "vlb":
            if isinstance(self.schedule, Chain):
                before = self.schedule.at(level.t - 1 / self.schedule.T)
                change = torch.where(
                    before.sigma > 0, before.alpha**2 / before.sigma**2 - snr, 1 / sigma2
                )  # sigma_1^2 = beta_1
                return self.schedule.T / 2 * change
            return self.schedule.diffusion2(level.t) * snr / sigma2 / 2  # -dSNR/dt = g^2 SNR / sigma^2
        return {
            "eps": snr,
            "score": snr,
            "x": torch.ones_like(snr),
            "v": 1 + self.denoiser.sigma_data**2 * snr,
            "velocity": ((level.alpha + level.sigma) / level.sigma) ** 2,
        }[self.denoiser.target]

    def draw_times(self, noise: Noise) -> Tensor:
        """Draw training times `(n,)`: uniform; logit-normal, sigmoid(N(0, 1)) (Esser et al. 2024, arXiv:2403.03206);
        or log-normal in u = sigma/alpha, log u ~ N(-1.2 + log 2, 1.2^2) (Karras et al. 2022, table 1, whose data have deviation
        1/2: their sigma is u / 2).
        """
        u = noise.stratified()
        if self.times != "uniform":
            z = torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))
            u = z.sigmoid() if self.times == "logit-normal" else self.schedule.time(-2 * (math.log(2) - 1.2 + 1.2 * z))
        return self.schedule.noisy(u)
