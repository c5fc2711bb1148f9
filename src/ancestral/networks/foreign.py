"""Networks of other libraries, which take a noisy sample and a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from ancestral.errors import UsageError
from ancestral.networks.contract import taking_context
from ancestral.schedules import Chain, Levels, Schedule
from ancestral.transfer import onto

Time = Literal["t", "step", "sigma", "logsnr"]


class FromTime(nn.Module):
    """A network (x_t, time) -> F of another library, as (z, logsnr) -> F.

        chain = Chain.linear()
        network = FromTime(theirs, chain, "step")
        model = Diffusion(network, (3, 32, 32), schedule=chain, target="eps", mean=0.5, std=0.5, bounds=(0, 1))

    It computes x_t = sqrt(alpha^2 + sigma^2) z, and the time at which the schedule has this log SNR. F is what the network was
    trained to predict: eps, x, v or velocity. A denoiser D(x; sigma) of Karras et al. 2022 predicts x on the schedule `VE` and
    takes "sigma". The target "score" is -eps, the score times sigma.

    Args:
        network: the module (x_t `(n, *shape)`, time `(n,)`) -> F `(n, *shape)`, or (x_t, time, context).
        schedule: the forward process for which it was trained.
        time: what it takes: "t", the schedule's time in [0, 1]; "step", the step 0..T-1 of a `Chain`; "sigma"; "logsnr"; or a
            function of `Levels`, whose t, alpha and sigma are float64 `(n,)` on the CPU.

    Raises:
        UsageError: if the steps are asked of a schedule that is no chain.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, time: Time | Callable[[Levels], Tensor] = "t"):
        super().__init__()
        if time == "step" and not isinstance(schedule, Chain):
            raise UsageError("only a Chain has steps: give the network's chain, or another time")
        if isinstance(time, str) and time not in ("t", "step", "sigma", "logsnr"):
            raise UsageError(f"unknown time {time!r}: choose t, step, sigma or logsnr, or give a function")
        self.network = taking_context(network, "x_t", "time")
        self.schedule, self.time = schedule, time

    def forward(self, z: Tensor, logsnr: Tensor, context: Any = None) -> Tensor:
        values, rows = logsnr.double().cpu().unique(return_inverse=True)  # one of them in a sampler
        level = self.schedule.at(self.schedule.time(values))
        r = (level.alpha**2 + level.sigma**2).sqrt()[rows].to(z.dtype)
        time = onto(self._time(level)[rows].to(z.dtype), z.device)
        out: Tensor = self.network(onto(r, z.device).view(-1, *[1] * (z.ndim - 1)) * z, time, context)
        return out

    def _time(self, level: Levels) -> Tensor:
        if not isinstance(self.time, str):
            return self.time(level)
        if self.time == "step":
            assert isinstance(self.schedule, Chain)
            return ((level.t * self.schedule.T).round(decimals=3) - 1).clamp(min=0)
        return {"t": level.t, "sigma": level.sigma, "logsnr": 2 * (level.alpha.log() - level.sigma.log())}[self.time]


class Preconditioned(nn.Module):
    """The denoiser D(x; sigma) around a network F (Karras et al. 2022, arXiv:2206.00364, eq. 7 and table 1):

        D = c_skip x + c_out F(c_in x, c_noise),    c_skip = s^2 / (sigma^2 + s^2),    c_out = sigma s / sqrt(sigma^2 + s^2),
        c_in = 1 / sqrt(sigma^2 + s^2),             c_noise = log(sigma) / 4

    Args:
        network: F, a module (c_in x `(n, *shape)`, c_noise `(n,)`), or with a context after them.
        sigma_data: s, the deviation of the data in the network's units.
    """

    def __init__(self, network: nn.Module, sigma_data: float = 0.5):
        super().__init__()
        self.network = taking_context(network, "x", "noise")
        self.sigma_data = sigma_data

    def forward(self, x: Tensor, sigma: Tensor, context: Any = None) -> Tensor:
        s = sigma.view(-1, *[1] * (x.ndim - 1))
        scale = (s**2 + self.sigma_data**2).sqrt()
        f = self.network(x / scale, sigma.log() / 4, context)
        denoised: Tensor = (self.sigma_data / scale) ** 2 * x + s * self.sigma_data / scale * f
        return denoised
