"""Models with a denoiser of every noise level. They have samplers, a score, likelihoods and an encoder.

By Tweedie's formula (Robbins 1956; Efron 2011) the denoiser E[x | x_t] and the score are one function,

    grad log p(x_t) = (alpha_t E[x | x_t] - x_t) / sigma_t^2 = -E[eps | x_t] / sigma_t,

so that every diffusion model can be sampled by Langevin dynamics, SDE or ODE, and every score model is a diffusion model
(Song et al. 2021, arXiv:2011.13456).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ancestral.conditioning import Condition, Conditioner, Context
from ancestral.denoiser import Denoiser
from ancestral.errors import UsageError
from ancestral.gaussian import slerp
from ancestral.guidance import Autoguidance, Clip, Conditional, guided
from ancestral.likelihood import CHEAP, Bound, Lattice, ode_log_prob, vlb
from ancestral.models.base import GenerativeModel
from ancestral.models.edits import Edit, Inpaint, SamplePath
from ancestral.noise import Noise, SampleNoise
from ancestral.prediction import Prediction, PredictionType
from ancestral.schedules import Chain, Level, Schedule, grid
from ancestral.solvers import Denoise, ProbabilityFlow, Solver, State
from ancestral.solvers import solver as solver_of

STEPS, SOLVER = 20, "dpmpp"  # the default sampler
SPACING = "logsnr"
GUIDANCE = 1.5  # for a class, text, layout or map: conditions are followed better than with 1, at the same distance (measured)
DRAWS = 32  # steps of the chain that are drawn for each sample: tens of seconds for a thousand images
CELL = 1 / 2  # least noise of the chain of levels, relative to their spacing; less noise tells nothing more of them
Method = Literal["vlb", "ode"]


class DenoisingModel(GenerativeModel):
    """A denoiser and the schedule of its noise.

    Args:
        network: any module (z `(n, *shape)`, logsnr `(n,)`, context) -> F `(n, *shape)`, see `ancestral.denoiser`. It
            may also take (z, logsnr). Or a `Denoiser`, which has its own target and sigma_data.
        shape: of one sample.
        schedule: the forward process, x_t = alpha(t) x + sigma(t) eps.
        target: the type of the prediction F. sigma_data: of the target v.
        levels: of data that are stored as whole levels within the bounds, None for real data. Likelihoods need it.
        mean, std, bounds: the units of the data. conditioner: encodes the conditions.

    Raises:
        UsageError: if there are fewer than 2 levels.
    """

    methods: tuple[Method, ...] = ("vlb", "ode")  # of `log_prob`

    def __init__(
        self,
        network: nn.Module,
        shape: Sequence[int],
        *,
        schedule: Schedule,
        target: PredictionType,
        sigma_data: float = 1.0,
        levels: int | None = None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        bounds: tuple[float, float] | None = None,
        conditioner: Conditioner | None = None,
    ):
        super().__init__(shape, mean=mean, std=std, bounds=bounds, conditioner=conditioner)
        if levels is not None and levels < 2:
            raise UsageError(f"data that are stored as levels have at least 2; got levels={levels}: leave it out for real data")
        conditional = bool(len(self.conditioner.kinds))
        self.denoiser = network if isinstance(network, Denoiser) else Denoiser(network, target, sigma_data, conditional)
        self.schedule = schedule
        self.levels = levels
        self.latent_shape = self.shape

    def networks(self) -> tuple[nn.Module, ...]:
        """Return the network of the denoiser."""
        return (self.denoiser.network,)

    def sample_path(
        self,
        noise: Noise,
        context: Context,
        *,
        steps: int | None = None,
        solver: str | Solver = SOLVER,
        spacing: str | Sequence[float] = SPACING,
        guidance: float = 1.0,
        interval: tuple[float, float] | None = None,
        rescale: float = 0.0,
        negative: Context | None = None,
        weak: Denoise | None = None,
        edit: Edit | None = None,
        clip: bool = True,
    ) -> Iterator[State]:
        """Yield the states from noise to x_0 by a solver, through `steps` levels of a grid (20 by default).

        `spacing` is as in `ancestral.schedules.grid`; explicit times have their own number of steps.
        `guidance`, `interval` and `rescale` are as in `ancestral.guidance`. Guidance leads away from the model without
        condition, with the `negative` condition, or from the `weak` model. `edit` is as in `ancestral.models.edits`. `clip`
        keeps each prediction within the range of the data, if they have one.
        """
        null = self.conditioner.null(noise.n) if negative is None else negative
        if weak is not None:
            if negative is not None:
                raise UsageError(
                    "guidance leads away from a negative condition or from a weak model, not from both: leave one out"
                )
            wanted = Conditional(self.denoiser, context)
            denoise: Denoise = Autoguidance(wanted, weak, scale=guidance, interval=interval, rescale=rescale)
        else:
            denoise = guided(self.denoiser, context, null, guidance, interval, rescale)
        if steps is None:
            steps = STEPS if isinstance(spacing, str) else len(spacing) - 1
        levels = self.schedule.levels(grid(self.schedule, steps, spacing))
        path = SamplePath(denoise, solver_of(solver), noise.normal(self.shape), levels)
        if edit is not None:
            path = edit(path, self.standardize)
        limits = self.standardize.limits()
        if clip and limits is not None:
            path = replace(path, denoise=Clip(path.denoise, *limits))
        return path.states(noise)

    def edited(
        self, n: int, condition: Mapping[str, Any] | None, how: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Return condition and options, as for every model. With the condition `inpaint`, each step keeps the known part."""
        edit = how.get("edit")
        encoded, rest = super().edited(n, condition, how)
        if isinstance(edit, Inpaint) and "edit" not in rest:
            rest["edit"] = replace(edit, repeats=1)
        return encoded, rest

    def resolve(self, raw: Mapping[str, Tensor], n: int, how: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of `sample_path`.

        `negative` is a condition as in `sample`, the same for all samples. `weak` is another `DenoisingModel` for the same
        conditions. The default of `guidance` is that of `usual_guidance`.

        Raises:
            UsageError: if a weak model is of other data, or if guidance needs a null that was not trained.
        """
        how = {"guidance": self.usual_guidance(raw), **how}
        if how["guidance"] != 1 and not self.conditioner.drop and how.get("negative") is None and how.get("weak") is None:
            raise UsageError(
                "guidance needs the model without condition, and this one always had one in its training "
                "(model.condition_dropout=0): leave guidance out, or give a negative condition or a weak model"
            )
        if isinstance(negative := how.get("negative"), Mapping):
            how["negative"] = self.conditioner.context(negative, n)
        if isinstance(weak := how.get("weak"), GenerativeModel):
            same = [
                torch.equal(a.cpu(), b.cpu())
                for a, b in zip(self.standardize.buffers(), weak.standardize.buffers(), strict=True)
            ]
            alike = weak.shape == self.shape and all(same) and self.conditioner.reads_like(weak.conditioner)
            if not isinstance(weak, DenoisingModel) or not alike:
                raise UsageError("a weak model must be trained on the data and the conditions of the model that it guides")
            how["weak"] = Conditional(weak.denoiser, weak.conditioner(raw, n))
        return how

    def usual_guidance(self, asked: Iterable[str]) -> float:
        """Return the default scale of guidance for the conditions `asked`.

        It is 1.5 for conditions with a vector (class, text, number, layout, map), and 1 for images or if no null was trained.
        """
        kinds = [cast(Condition, self.conditioner.kinds[name]) for name in asked if name in self.conditioner.kinds]
        return GUIDANCE if self.conditioner.drop > 0 and any(kind.widths.vector for kind in kinds) else 1.0

    def denoise(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Prediction:
        """Return the prediction for x_t `(n, *shape)` in model units, at a level or at a time of the schedule."""
        with self.evaluation():
            return self._conditional(condition, len(x_t))(x_t, self._level(t))

    def score(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Tensor:
        """Return grad log p(x_t), shaped as x_t, for sigma > 0."""
        return self.denoise(x_t, t, condition).score

    def log_prob(
        self, x: Tensor, condition: Any = None, *, noise: Noise | None = None, method: Method | None = None, **how: Any
    ) -> Bound:
        """Return log p(x), or a bound, of samples `(n, *shape)` in the units of the data.

        The methods are:

        - vlb: the bound of a chain of 1,000 steps (`ancestral.likelihood.vlb`; its options in `how`), of which 32 are drawn per
          sample. It bounds the density, or the probability of levels if the data have them. Then the chain begins at half the
          spacing of the levels, unless the model's own schedule is a chain.
        - ode: the density of the probability flow (`ode_log_prob`). Levels are filled to [0, 1].
        - None: ode for vectors of up to 16 real numbers, else vlb.

        If `noise` is None, sample i has seed i.

        Raises:
            UsageError: if the method is unknown.
        """
        method = method or ("ode" if len(self.shape) == 1 and self.dimensions <= CHEAP and self.levels is None else "vlb")
        noise = noise or SampleNoise(range(len(x)), self.device)
        z, lattice = self.standardize.normalize(x), self.lattice()
        with self.inference():
            denoise = self._conditional(condition, len(x))
            if method == "vlb":
                least = 0.0 if lattice is None else CELL * lattice.spacing.min().item()
                chain = Chain.of(self.schedule, least=least)
                bound = vlb(denoise, chain, z, noise, lattice=lattice, **{"draws": DRAWS} | how)
            elif method == "ode":
                bound = ode_log_prob(denoise, self.schedule, z, noise, lattice=lattice, **how)
                if lattice is not None:
                    bound = bound.plus("levels", self.dimensions * lattice.stretch)
            else:
                raise UsageError(f"unknown method of likelihood {method!r}: choose vlb or ode")
        if bound.discrete:
            return bound
        per_channel = self.dimensions / self.standardize.std.numel()
        return bound.plus("units", -per_channel * self.standardize.std.cpu().double().log().sum().item())

    def lattice(self) -> Lattice | None:
        """The levels of the data in model units, or None."""
        limits = self.standardize.limits()
        if self.levels is None or limits is None:
            return None
        low, high = limits
        return Lattice((high - low) / (self.levels - 1), low, high)

    def encode(self, x: Tensor, condition: Any = None, steps: int = 16) -> Tensor:
        """Return the noise `(n, *shape)`, about N(0, I), from which the probability flow leads to samples in data units."""
        with self.evaluation(), torch.autocast(x.device.type, enabled=False):
            return self._flow(condition, len(x)).to_noise(self.standardize.normalize(x), steps)

    def decode(self, z: Tensor, condition: Any = None, steps: int = 16) -> Tensor:
        """Invert `encode`, up to the error of `steps` Runge-Kutta steps of order 4."""
        with self.evaluation(), torch.autocast(z.device.type, enabled=False):
            return self.standardize.denormalize(self._flow(condition, len(z)).to_data(z, steps))

    def between(self, a: Tensor, b: Tensor, n: int = 9, condition: Any = None, steps: int = 16) -> Tensor:
        """Return n samples `(n, *shape)` from sample a to b `(*shape)`, along the great circle between their noises."""
        z = self.encode(torch.stack([a, b]), condition, steps)
        shares = torch.linspace(0, 1, n, device=z.device)
        return self.decode(torch.cat([slerp(z[:1], z[1:], share) for share in shares]), condition, steps)

    def _flow(self, condition: Any, n: int) -> ProbabilityFlow:
        return ProbabilityFlow(self._conditional(condition, n), self.schedule)

    def _conditional(self, condition: Any, n: int) -> Conditional:
        return Conditional(self.denoiser, self.conditioner.context(condition, n))

    def _level(self, t: Level | float) -> Level:
        return t if isinstance(t, Level) else self.schedule.levels(torch.tensor([t], dtype=torch.float64))[0]
