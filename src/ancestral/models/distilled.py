"""Distillation of a denoising model into a sampler of one to four evaluations.

The probability flow leads from noise x_0 ~ N(0, I) at t_0 = 1 to a sample at t_k = 0. A teacher follows it in many steps. The
student has k steps, each of Euler's method,

    x_{i+1} = alpha_{i+1} x_hat + sigma_{i+1} (x_i - alpha_i x_hat) / sigma_i,      x_hat = student(x_i, t_i)           (1)

and learns to arrive where the flow arrives: x_hat_i* is the prediction with which (1) leads from the teacher's state at t_i to
its state at t_{i+1}, and the loss over D dimensions is

    L = D sum_i rho(|x_hat - x_hat_i*|^2 / D) / k,      rho(e) = 2 c (sqrt(e + c^2) - c),  c = 0.03                      (2)

With k = 1 this is the distillation of Luhman & Luhman 2021 (arXiv:2101.02388). Training only at the times of the sampler, from
the teacher's weights, on whole trajectories, is due to Zhou et al. 2024 (arXiv:2409.19681), who found it faster than
consistency training by two orders of magnitude. rho is the Pseudo-Huber loss, which gives few large errors less weight.

The map from noise to samples is deterministic, so a seed gives about the teacher's sample. The teacher's flow includes
guidance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Context
from ancestral.configuration import configurable
from ancestral.denoiser import Denoiser
from ancestral.errors import UsageError
from ancestral.guidance import Clip, guided
from ancestral.models.base import GenerativeModel, Player
from ancestral.models.denoising import SOLVER, SPACING, DenoisingModel
from ancestral.models.edits import SamplePath
from ancestral.models.latent import LatentModel
from ancestral.noise import Noise, SampleNoise
from ancestral.prediction import PredictionType
from ancestral.schedules import Chain, Schedule, grid
from ancestral.solvers import State, move
from ancestral.solvers import solver as solver_of

STEPS = 2  # of the student
TEACHER_STEPS = 8
C = 0.03  # error per dimension, in deviations of the data, up to which (2) is quadratic


@configurable
class DistilledModel(GenerativeModel):
    """A sampler of few evaluations, which is distilled from a denoising model.

        student = DistilledModel.of(teacher, steps=2)

    Args:
        network: any module (z `(n, *shape)`, logsnr `(n,)`, context) -> F `(n, *shape)`, see `ancestral.denoiser`.
        shape: of one sample.
        schedule: the forward process.
        times: the times of the sampler, from 1 down to 0.
        target: the type of the prediction F. sigma_data: of the target v.
        mean, std, bounds: the units of the data. conditioner: encodes the conditions. It is not trained.
        guidance: the scale of guidance in the teacher's flow.
        teacher_steps: the number of steps in which the teacher follows the flow, at least.
        origin: the checksum of the teacher's weights, for the configuration.
        teacher: the denoiser of the teacher, which only training needs. It is not part of the model's weights.

    Raises:
        UsageError: if the times do not fall from 1 to 0.
    """

    family = "distilled"
    least_steps = 50  # since training begins at the teacher's weights
    reads_data = False
    unrecorded = ("teacher",)

    def __init__(
        self,
        network: nn.Module,
        shape: Sequence[int],
        *,
        schedule: Schedule,
        times: Sequence[float],
        target: PredictionType,
        sigma_data: float = 1.0,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        bounds: tuple[float, float] | None = None,
        conditioner: Conditioner | None = None,
        guidance: float = 1.0,
        teacher_steps: int = TEACHER_STEPS,
        origin: str = "",
        teacher: Denoiser | None = None,
    ):
        super().__init__(shape, mean=mean, std=std, bounds=bounds, conditioner=conditioner)
        times = [float(t) for t in times]
        if len(times) < 2 or times[0] != 1 or times[-1] != 0 or times != sorted(set(times), reverse=True):
            raise UsageError(f"the times of a sampler fall from 1 to 0; got {times}")
        self.denoiser = Denoiser(network, target, sigma_data, bool(len(self.conditioner.kinds)))
        self.schedule, self.times = schedule, times
        self.levels = schedule.levels(torch.tensor(times, dtype=torch.float64))  # of the sampler
        self.guidance, self.teacher_steps, self.origin = guidance, teacher_steps, origin
        self.latent_shape = self.shape
        self._teacher = [] if teacher is None else [teacher]  # a list, so that it is no part of this module
        self.train(self.training)

    @classmethod
    def of(
        cls,
        teacher: DenoisingModel,
        steps: int = STEPS,
        *,
        guidance: float | None = None,
        teacher_steps: int = TEACHER_STEPS,
        origin: str = "",
    ) -> Self:
        """Return the untrained student of a teacher, with the teacher's weights.

        Args:
            teacher: a trained diffusion or score model. Its weights must not change while the student is trained.
            steps: the number of the student's evaluations.
            guidance: the scale of guidance; None: the teacher's default for its conditions.
            teacher_steps: the number of steps in which the teacher follows the flow.
            origin: the checksum of the teacher's weights, for the configuration.

        Raises:
            UsageError: if there is no step, or more than the teacher's.
        """
        if not 1 <= steps <= teacher_steps:
            raise UsageError(f"a student takes from 1 step to the teacher's {teacher_steps}; got {steps}")
        conditioner = deepcopy(teacher.conditioner)
        return cls(
            deepcopy(teacher.denoiser.network).requires_grad_(True),
            teacher.shape,
            schedule=teacher.schedule,
            times=times_of(teacher.schedule, steps),
            target=teacher.denoiser.target,
            sigma_data=teacher.denoiser.sigma_data,
            conditioner=conditioner,
            guidance=teacher.usual_guidance(conditioner.kinds) if guidance is None else guidance,
            teacher_steps=teacher_steps,
            origin=origin,
            teacher=teacher.denoiser,
            **teacher.standardize.units,
        )

    def train(self, mode: bool = True) -> Self:
        """Set the mode. The conditioner stays in evaluation mode, since teacher and student read the same context."""
        super().train(mode)
        self.conditioner.eval()
        return self

    def players(self) -> tuple[Player, ...]:
        """Return the denoiser as the only player."""
        return (Player("model", tuple(self.denoiser.parameters())),)

    def networks(self) -> tuple[nn.Module, ...]:
        """Return the network of the student."""
        return (self.denoiser.network,)

    def losses(self, batch: Batch, player: str, noise: Noise) -> dict[str, Tensor]:
        """Return eq. 2, {"total": `(n,)`}. Of the batch only the conditions are used.

        Raises:
            UsageError: if the model has no teacher.
        """
        with torch.no_grad():
            context = self.conditioner(batch.conditions, len(batch), noise)
            states = self.flow(noise.normal(self.shape), context)
        levels, total = self.levels, torch.zeros(len(batch), device=self.device)
        for i, (t, s) in enumerate(pairwise(levels)):
            x_hat = self.denoiser(states[i], t, context).x
            gain = s.alpha - s.sigma * t.alpha / t.sigma  # of eq. 1, for x_hat
            wanted = (states[i + 1] - s.sigma / t.sigma * states[i]) / gain
            error = (x_hat - wanted).square().flatten(1).mean(1)
            total = total + 2 * C * ((error + C**2).sqrt() - C)
        return {"total": self.dimensions * total / (len(levels) - 1)}

    @torch.no_grad()
    def flow(self, z: Tensor, context: Context) -> list[Tensor]:
        """Return the states of the teacher's flow at the sampler's times, from noise z ~ N(0, I), `(n, *shape)`, on.

        Raises:
            UsageError: if the model has no teacher.
        """
        if not self._teacher:
            raise UsageError("training needs the teacher: build the model by DistilledModel.of(teacher)")
        teacher = self._teacher[0].to(z.device).eval()
        denoise = guided(teacher, context, self.conditioner.null(len(z)), self.guidance, None, 0.0)
        if (limits := self.standardize.limits()) is not None:
            denoise = Clip(denoise, *limits)
        fine = torch.cat([grid(self.schedule, self.teacher_steps, SPACING), torch.tensor(self.times, dtype=torch.float64)])
        levels = self.schedule.levels(fine.unique().flip(0))
        path = SamplePath(denoise, solver_of(SOLVER), z, levels)
        unread = SampleNoise(range(len(z)), z.device)  # the solver is deterministic
        return [state.x for state in path.states(unread) if state.t.t in self.times]

    def sample_path(self, noise: Noise, context: Context) -> Iterator[State]:
        """Yield the states from noise to x_0 at the levels of the sampler (eq. 1)."""
        return self._path(noise.normal(self.shape), context)

    def _path(self, z: Tensor, context: Context) -> Iterator[State]:
        levels = self.levels
        total = len(levels) - 1
        x = math.hypot(levels[0].alpha, levels[0].sigma) * z
        yield State(x, levels[0], None, 0, 0, total)
        for done, (t, s) in enumerate(pairwise(levels), start=1):
            p = self.denoiser(x, t, context)
            x = move(p, s)
            yield State(x, s, p, done, done, total)

    def decode(self, z: Tensor, condition: Any = None) -> Tensor:
        """Decode noise `(n, *shape)` to samples `(n, *shape)` in the units of the data."""
        with self.evaluation():
            *_, last = self._path(z, self.conditioner.context(condition, z.shape[0]))
            return self.to_data(last.x)


def times_of(schedule: Schedule, steps: int) -> list[float]:
    """Return the times of a sampler with few steps: from 1 through the levels sigma / alpha = (k - i) / i to 0.

    On x_t = (1 - t) x + t eps these are even steps. On a chain they are rounded to its steps.
    """
    inner = torch.tensor([(steps - i) / i for i in range(1, steps)], dtype=torch.float64)
    times = schedule.time(-2 * inner.log()) if len(inner) else inner
    if isinstance(schedule, Chain):
        times = (times * schedule.T).round().clamp(min=1) / schedule.T
    return [1.0, *times.unique().flip(0).tolist(), 0.0]


def distilled(teacher: GenerativeModel, steps: int = STEPS, **how: Any) -> GenerativeModel:
    """Return the untrained student of a model: of a latent model, a latent model whose prior is the student.

    Args:
        teacher: a trained diffusion, score or latent model.
        steps: the number of the student's evaluations.
        **how: as for `DistilledModel.of`.

    Raises:
        UsageError: if the model has no denoiser.
    """
    if isinstance(teacher, DenoisingModel):
        return DistilledModel.of(teacher, steps, **how)
    if isinstance(teacher, LatentModel) and isinstance(teacher.prior, DenoisingModel):
        prior = DistilledModel.of(teacher.prior, steps, **how)
        student = LatentModel(deepcopy(teacher.autoencoder), prior, shape=teacher.shape, **teacher.standardize.units)
        student.mean.copy_(teacher.mean)
        student.std.copy_(teacher.std)
        student.known.copy_(teacher.known)
        return student
    raise UsageError(
        f"a {teacher.family} model takes one evaluation as it is, or has no denoiser to distil: give a diffusion, score or "
        "latent model"
    )
