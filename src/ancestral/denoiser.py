"""The denoiser: a network whose output is converted to E[x | x_t].

The network's inputs are a noisy sample at unit scale and the log signal-to-noise ratio. They do not depend on the schedule:

    z = x_t / r,   r = sqrt(alpha^2 + sigma^2),   logsnr = log(alpha^2 / sigma^2),      F = network(z, logsnr, context)

z is the same for every schedule at equal logsnr, so a network trained on one schedule can be sampled on another. F is a
prediction type of about unit scale for data of unit variance: eps, x, velocity, or sigma score. For the target v it is

    F = (s^2 alpha eps - sigma x) / sqrt(sigma^2 + s^2 alpha^2)                                                         (1)

The resulting x_hat is that of Karras et al. 2022 (arXiv:2206.00364, eq. 7, with -F / s for F), and s is their sigma_data. F is
v / r for s = 1, the deviation of the data here, and -x in the limit s = 0. If the noise is much larger than s, the network
predicts -x and need not carry the noise to its output. This matters if one position of its maps has many pixels, because the
network cannot carry all their noise. If the noise is smaller, it predicts s eps, and x_t gives the fine detail. For the same
reason the network of Li & He 2025 (arXiv:2511.13720) predicts x.
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
from ancestral.transfer import onto

LOGSNR_LIMIT = 20.0  # the network's input stays within +-20, also if alpha or sigma is 0


@configurable
class Denoiser(nn.Module):
    """A network whose output is converted to E[x | x_t].

    Args:
        network: any module (z `(n, *shape)`, logsnr `(n,)`, Context) -> F `(n, *shape)`, or one that takes only (z, logsnr)
            (`ancestral.networks.contract`).
        target: the prediction type of F.
        sigma_data: s of eq. 1, for data of deviation 1.
        conditional: whether the network must take a context.

    Raises:
        UsageError: if sigma_data is not 1 and the target not v, or the network takes other inputs.
    """

    def __init__(self, network: nn.Module, target: PredictionType, sigma_data: float = 1.0, conditional: bool = False):
        super().__init__()
        if sigma_data != 1 and target != "v":
            raise UsageError(
                f"sigma_data={sigma_data:g} needs the target v, and the target is {target}: set target=v, or sigma_data=1"
            )
        self.network = taking_context(network, "z", "logsnr", conditional=conditional)
        self.target: PredictionType = target
        self.sigma_data = sigma_data

    def forward(self, x_t: Tensor, level: Level | Levels, context: Context | None = None) -> Prediction:
        """Return the prediction at one level for all samples (`Level`), or at one for each (`Levels`)."""
        n = x_t.shape[0]
        alpha, sigma = (torch.as_tensor(v, dtype=torch.float64) for v in (level.alpha, level.sigma))
        r = (alpha**2 + sigma**2).sqrt()
        logsnr = (2 * (alpha.log() - sigma.log())).clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT).to(torch.float32)
        logsnr = torch.full((n,), logsnr.item(), device=x_t.device) if logsnr.ndim == 0 else onto(logsnr, x_t.device)
        f = self.network(x_t * column(1 / r, x_t), logsnr, context or Context()).to(x_t.dtype)
        if self.target == "v":
            s2 = self.sigma_data**2
            squared = sigma**2 + s2 * alpha**2
            x = column(s2 * alpha / squared, x_t) * x_t - column(sigma / squared.sqrt(), x_t) * f
            return Prediction(x, x_t, column(alpha, x_t), column(sigma, x_t))
        f = f * column(1 / sigma, x_t) if self.target == "score" else f
        return Prediction.of(self.target, f, x_t, column(alpha, x_t), column(sigma, x_t))


def network_logsnr(level: Level) -> float:
    """Return the log SNR of a level as the network's input, limited to +-20."""
    return min(max(level.logsnr, -LOGSNR_LIMIT), LOGSNR_LIMIT)


def column(value: Tensor, like: Tensor) -> Tensor | float:
    """Convert a float64 coefficient so that it multiplies `like` `(n, *shape)`: to a float, or to `(n, 1, ..., 1)`."""
    if value.ndim == 0:
        return value.item()
    return onto(value.to(like.dtype), like.device).view(-1, *[1] * (like.ndim - 1))
