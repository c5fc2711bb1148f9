"""One network, many readings.

The network sees a noisy sample at unit scale and the log signal-to-noise ratio, nothing of the schedule:

    z = x_t / r,   r = sqrt(alpha^2 + sigma^2),   logsnr = log(alpha^2 / sigma^2),      F = network(z, logsnr, context)

z is the same for every schedule at equal logsnr, so a network trained on one schedule can be sampled on another. F is a
reading of about unit scale where data have unit variance: eps, x, velocity as they are, and sigma score. The target v is

    F = (s^2 alpha eps - sigma x) / sqrt(sigma^2 + s^2 alpha^2)                                                         (1)

whose x_hat is that of Karras et al. 2022 (arXiv:2206.00364, eq. 7, with -F / s for F), s being their sigma_data: v / r for
s = 1, the deviation of the data here, and -x in the limit of 0. Under noise much greater than s the network says x; it need not
carry that noise to its output, which is more than it can where one position of its maps holds many pixels. Under less it says
s eps, and fine detail passes by it in x_t. Li & He 2025 (arXiv:2511.13720) have the network predict x for that reason.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.conditioning import Context
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.networks.contract import taking_context
from ancestral.prediction import Prediction, PredictionType
from ancestral.schedules import Level, Levels

LOGSNR_LIMIT = 20.0  # what the network is told stays within +-20, also where alpha or sigma is 0


@configurable
class Denoiser(nn.Module):
    """A network read as E[x | x_t].

    Args:
        network: any module (z `(n, *shape)`, logsnr `(n,)`, Context) -> F `(n, *shape)`; one that takes (z, logsnr) serves too
            (`ancestral.networks.contract`).
        target: which reading F is.
        sigma_data: s of eq. 1, where data have deviation 1.
        conditional: whether the network must be told of conditions.

    Raises:
        UsageError: if sigma_data is not 1 and the target not v, or the network takes other inputs.
    """

    def __init__(self, network: nn.Module, target: PredictionType, sigma_data: float = 1.0, conditional: bool = False):
        super().__init__()
        if sigma_data != 1 and target != "v":
            raise UsageError(
                f"sigma_data={sigma_data:g} is of the target v, and the target is {target}: set target=v, or sigma_data=1"
            )
        self.network = taking_context(network, "z", "logsnr", conditional=conditional)
        self.target: PredictionType = target
        self.sigma_data = sigma_data

    def forward(self, x_t: Tensor, level: Level | Levels, context: Context | None = None) -> Prediction:
        """The prediction at one level for all samples (`Level`), or at one each (`Levels`)."""
        n = x_t.shape[0]
        alpha, sigma = (torch.as_tensor(v, dtype=torch.float64) for v in (level.alpha, level.sigma))
        r = (alpha**2 + sigma**2).sqrt()
        logsnr = (2 * (alpha.log() - sigma.log())).clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT).expand(n)
        logsnr = logsnr.to(torch.float32).to(x_t.device)
        f = self.network(x_t * column(1 / r, x_t), logsnr, context or Context()).to(x_t.dtype)
        if self.target == "v":
            s2 = self.sigma_data**2
            squared = sigma**2 + s2 * alpha**2
            x = column(s2 * alpha / squared, x_t) * x_t - column(sigma / squared.sqrt(), x_t) * f
            return Prediction(x, x_t, column(alpha, x_t), column(sigma, x_t))
        f = f * column(1 / sigma, x_t) if self.target == "score" else f
        return Prediction.of(self.target, f, x_t, column(alpha, x_t), column(sigma, x_t))


def network_logsnr(level: Level) -> float:
    """The log SNR of a level as a network sees it, within +-20."""
    return min(max(level.logsnr, -LOGSNR_LIMIT), LOGSNR_LIMIT)


def column(value: Tensor, like: Tensor) -> Tensor | float:
    """A float64 coefficient ready to multiply `like` `(n, *shape)`: a float, or `(n, 1, ..., 1)` cast once."""
    if value.ndim == 0:
        return value.item()
    return value.to(like.dtype).to(like.device).view(-1, *[1] * (like.ndim - 1))
