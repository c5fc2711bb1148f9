"""What a denoiser of every noise level is, however it was trained: a sampler, a score, a likelihood, a code.

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

STEPS, SOLVER = 20, "dpmpp"  # the sampler that serves where none is asked for
SPACING = "logsnr"
GUIDANCE = 1.5  # of a class, a text, a layout or a map: by measurement better obeyed than 1, and no farther from the data
DRAWS = 32  # of the chain's steps for each sample: tens of seconds for a thousand images
CELL = 1 / 2  # of the levels' spacing is where their chain begins: below, a network pays for digits that levels do not have
Method = Literal["vlb", "ode"]


class DenoisingModel(GenerativeModel):
    """A denoiser and the schedule of its noise.

    Args:
        network: any module (z `(n, *shape)`, logsnr `(n,)`, context) -> F `(n, *shape)`, see `ancestral.denoiser`; one that
            takes (z, logsnr) serves too. Or a `Denoiser`, whose own target and sigma_data then hold.
        shape: of one sample.
        schedule: the forward process, x_t = alpha(t) x + sigma(t) eps.
        target: which reading of the prediction F is. sigma_data: of the target v.
        levels: of data that are stored as whole levels within the bounds, None for real data. Likelihoods need it.
        mean, std, bounds: the units of the data. conditioner: encodes the conditions.
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
        conditional = bool(len(self.conditioner.kinds))
        self.denoiser = network if isinstance(network, Denoiser) else Denoiser(network, target, sigma_data, conditional)
        self.schedule = schedule
        self.levels = levels
        self.latent_shape = self.shape

    def sample_path(
        self,
        noise: Noise,
        context: Context,
        *,
        steps: int = STEPS,
        solver: str | Solver = SOLVER,
        spacing: str = SPACING,
        guidance: float = 1.0,
        interval: tuple[float, float] | None = None,
        rescale: float = 0.0,
        negative: Context | None = None,
        weak: Denoise | None = None,
        edit: Edit | None = None,
        clip: bool = True,
    ) -> Iterator[State]:
        """From noise to x_0 by a solver, through `steps` levels of a grid.

        guidance, interval, rescale: as in `ancestral.guidance`, from the model without condition, from that with the `negative`
        one, or from the `weak` model. edit: a given sample to begin with, as in `ancestral.models.edits`.
        clip: keep each prediction within the range of the data, where it has one.
        """
        null = self.conditioner.null(noise.n) if negative is None else negative
        if weak is not None:
            if negative is not None:
                raise UsageError("guidance goes away from one thing, a negative condition or a weak model: leave one out")
            wanted = Conditional(self.denoiser, context)
            denoise: Denoise = Autoguidance(wanted, weak, scale=guidance, interval=interval, rescale=rescale)
        else:
            denoise = guided(self.denoiser, context, null, guidance, interval, rescale)
        levels = self.schedule.levels(grid(self.schedule, steps, spacing))
        walk = SamplePath(denoise, solver_of(solver), noise.normal(self.shape), levels)
        if edit is not None:
            walk = edit(walk, self.standardize)
        limits = self.standardize.limits()
        if clip and limits is not None:
            walk = replace(walk, denoise=Clip(walk.denoise, *limits))
        return walk.states(noise)

    def edited(
        self, n: int, condition: Mapping[str, Any] | None, how: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """As for every model; where the condition is `inpaint`, each step also starts from what is known."""
        edit = how.get("edit")
        told, rest = super().edited(n, condition, how)
        if isinstance(edit, Inpaint) and "edit" not in rest:
            rest["edit"] = replace(edit, repeats=1)
        return told, rest

    def resolve(self, raw: Mapping[str, Tensor], n: int, how: Mapping[str, Any]) -> dict[str, Any]:
        """negative: as conditions are written, of all samples alike. weak: another `DenoisingModel`, for the same conditions.
        guidance: see `usual_guidance`. Raises UsageError for a weak model of other data, and for guidance away from a null that
        was not trained.
        """
        how = {"guidance": self.usual_guidance(raw), **how}
        if how["guidance"] != 1 and not self.conditioner.drop and how.get("negative") is None and how.get("weak") is None:
            raise UsageError(
                "guidance goes away from the model without condition, and this one was trained with model.condition_dropout=0, "
                "always with one: leave guidance out, or name something else to go away from"
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
        """Where none is said: 1.5 for conditions with a meaning (a vector), which are class, text, layout and map; 1 for
        images, and where no null was trained. asked: their names.
        """
        kinds = [cast(Condition, self.conditioner.kinds[name]) for name in asked if name in self.conditioner.kinds]
        return GUIDANCE if self.conditioner.drop > 0 and any(kind.widths.vector for kind in kinds) else 1.0

    def denoise(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Prediction:
        """The prediction for x_t `(n, *shape)` in the models' units, at a level or at a time of the schedule."""
        with self.evaluation():
            return self._conditional(condition, len(x_t))(x_t, self._level(t))

    def score(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Tensor:
        """Grad log p(x_t), shaped as x_t; sigma > 0."""
        return self.denoise(x_t, t, condition).score

    def log_prob(
        self, x: Tensor, condition: Any = None, *, noise: Noise | None = None, method: Method | None = None, **how: Any
    ) -> Bound:
        """Of samples `(n, *shape)` in the units of the data. noise: None: sample i has seed i.

        vlb: the bound of a chain of 1,000 steps (`ancestral.likelihood.vlb`; its options in `how`), by 32 of them a sample; of
        the density, or of the probability of levels where the data have them: then the chain begins at half their spacing,
        unless it is the model's own schedule.
        ode: the density of the probability flow (`ode_log_prob`), of levels filled to [0, 1].
        None: ode for vectors of up to 16 real numbers, else vlb.
        Raises UsageError for another method.
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
        """The levels of the data in the models' units."""
        limits = self.standardize.limits()
        if self.levels is None or limits is None:
            return None
        low, high = limits
        return Lattice((high - low) / (self.levels - 1), low, high)

    def encode(self, x: Tensor, condition: Any = None, steps: int = 16) -> Tensor:
        """The noise `(n, *shape)`, about N(0, I), from which the probability flow comes to samples in the units of the data."""
        with self.evaluation(), torch.autocast(x.device.type, enabled=False):
            return self._flow(condition, len(x)).to_noise(self.standardize.normalize(x), steps)

    def decode(self, z: Tensor, condition: Any = None, steps: int = 16) -> Tensor:
        """The inverse of `encode`, up to the error of as many Runge-Kutta steps of order 4."""
        with self.evaluation(), torch.autocast(z.device.type, enabled=False):
            return self.standardize.denormalize(self._flow(condition, len(z)).to_data(z, steps))

    def between(self, a: Tensor, b: Tensor, n: int = 9, condition: Any = None, steps: int = 16) -> Tensor:
        """From sample a to b `(*shape)` in n pictures `(n, *shape)`, along the great circle between their noises."""
        z = self.encode(torch.stack([a, b]), condition, steps)
        shares = torch.linspace(0, 1, n, device=z.device)
        return self.decode(torch.cat([slerp(z[:1], z[1:], share) for share in shares]), condition, steps)

    def _flow(self, condition: Any, n: int) -> ProbabilityFlow:
        return ProbabilityFlow(self._conditional(condition, n), self.schedule)

    def _conditional(self, condition: Any, n: int) -> Conditional:
        return Conditional(self.denoiser, self.conditioner.context(condition, n))

    def _level(self, t: Level | float) -> Level:
        return t if isinstance(t, Level) else self.schedule.levels(torch.tensor([t], dtype=torch.float64))[0]
