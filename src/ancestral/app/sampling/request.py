"""Requests for samples, and their preparation for a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ancestral.app.data.spec import DataSpec
from ancestral.app.sampling.conditions import Conditions
from ancestral.app.sampling.edits import EditRequest
from ancestral.app.sampling.guidance import Guidance, denoising
from ancestral.app.sampling.tuning import STEPS, Effort, Tuning
from ancestral.app.training.saved import Opened, opened
from ancestral.conditioning import ClassCondition
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel, part_of, seeds_from
from ancestral.models.denoising import SOLVER, SPACING
from ancestral.models.denoising import STEPS as USUAL_STEPS
from ancestral.noise import SampleNoise
from ancestral.runtime import Precision
from ancestral.solvers import Solver, State
from ancestral.suggest import unknown

N = 64  # samples if no number is given
OF_PICTURE = 16  # samples if a picture is given
OF_PROMPTS = 32  # samples in all if texts are given


@dataclass(frozen=True)
class Sampling:
    """A request that fits its model, with all that `model.sample` needs.

    Args:
        model: the model that draws.
        seeds: the seed of each sample.
        condition: the condition, as `model.sample` takes it.
        options: the options of `model.sample`.
        batch: the number of samples computed at a time.
        columns: the number of different conditions that the samples take in turn.
    """

    model: GenerativeModel
    seeds: list[int]
    condition: Mapping[str, Any]
    options: dict[str, Any]
    batch: int | None
    columns: int

    @property
    def n(self) -> int:
        return len(self.seeds)

    @property
    def classes(self) -> list[str]:
        """The name of the class of each sample, [] if no class is asked for."""
        kind: Any = dict(self.model.conditioner.kinds.items()).get("class")
        if "class" not in self.condition or not isinstance(kind, ClassCondition):
            return []
        return [kind.names[label] for label in kind.parse(self.condition["class"], self.n).tolist()]

    def batches(self) -> Iterator[Iterator[State]]:
        """Return the trajectories of the samples, one batch at a time."""
        return self.model.batches(self.n, self.condition, seeds=self.seeds, batch=self.batch, **self.options)

    def only(self, i: int) -> Sampling:
        """Return the request for sample i alone, which is the same sample."""
        row = slice(i, i + 1)
        condition = {name: values[row] for name, values in self.model.conditioner.parse(self.condition, self.n).items()}
        return Sampling(self.model, self.seeds[row], condition, part_of(self.options, row), self.batch, 1)

    def sample(self) -> Tensor:
        """Draw the samples `(n, *shape)`, in the units of the data."""
        return self.model.sample(self.n, self.condition, seeds=self.seeds, batch=self.batch, **self.options)


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """A request for samples. None means the default of the model. Python, the command line and the web all build this class.

    Args:
        n: number of samples; with prompts, of each prompt; with a sweep, number of rows. None: 64; with prompts about 32 in
            all; with several classes one of each; with a picture 16; with a sweep one row.
        seed: the first seed; the samples have consecutive seeds.
        seeds: one seed for each sample instead.
        conditions: the conditions of the samples.
        guidance: the strength of guidance, and the condition or model from which it leads away.
        edit: a picture with which samples begin.
        solver: a registered name or a solver.
        steps: number of solver steps.
        spacing: the rule that spreads the steps over the noise levels, or the times of all levels, from 1 to 0.
        effort: "quick" for the fewest steps that `ancestral tune` fitted to the run, "best" for those after which more change
            nothing. Without a tuning they are 8 and 50 steps of the default sampler.
        options: further options of the model's family: `prior` and `observe` of a VAE, `truncation` of a GAN.
        batch: number of samples computed at a time.
        device: the device on which a run's model is loaded.
        precision: the arithmetic in which a run's model is loaded.

    Raises:
        UsageError: if parts of the request contradict each other. `prepare` checks whether the request fits a model.
    """

    n: int | None = None
    seed: int = 0
    seeds: tuple[int, ...] | None = None
    conditions: Conditions = field(default_factory=Conditions)
    guidance: Guidance = field(default_factory=Guidance)
    edit: EditRequest = field(default_factory=EditRequest)
    solver: str | Solver | None = None
    steps: int | None = None
    spacing: str | tuple[float, ...] | None = None
    effort: Effort | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    device: str = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.seeds is not None and self.n is not None and self.n != len(self.seeds):
            raise UsageError(f"`seeds` has {len(self.seeds)} seeds and `n` is {self.n}: leave `n` out")
        if self.seeds == () or (self.n is not None and self.n < 1):
            raise UsageError("`n` must be at least 1, and `seeds` must not be empty")
        if self.effort is not None:
            if self.effort not in STEPS:
                raise UsageError(unknown("effort", self.effort, STEPS))
            sampler = {"steps": self.steps, "solver": self.solver, "spacing": self.spacing}
            if given := [name for name, value in sampler.items() if value is not None]:
                raise UsageError(f"`{self.effort}` chooses the whole sampler: leave `{given[0]}` out")

    @property
    def count(self) -> int:
        """The number of samples."""
        asked = self.conditions
        if self.seeds is not None:
            return len(self.seeds) * (1 if asked.sweep is None else asked.sweep.count)
        if asked.sweep is not None:
            return (self.n or 1) * asked.sweep.count
        if asked.prompts:
            return asked.columns * (max(1, OF_PROMPTS // asked.columns) if self.n is None else self.n)
        if self.n is not None:
            return self.n
        if asked.columns > 1:
            return asked.columns
        return OF_PICTURE if self.edit.given else N

    def chosen_seeds(self) -> list[int]:
        """Return the seed of each sample."""
        sweep = self.conditions.sweep
        each = 1 if sweep is None else sweep.count  # the samples of a row of a sweep share their seed
        rows = seeds_from(self.seed, self.count // each) if self.seeds is None else self.seeds
        return [seed for seed in rows for _ in range(each)]

    def settled(self, run: Opened | None) -> SampleRequest:
        """Return the request with the sampler that the run's tuning has for it, or the request itself.

        A tuning is used if the request names neither solver nor spacing and does not begin with a picture. An effort becomes a
        number of steps. Raises AncestralError if the tuning is damaged.
        """
        if self.solver is not None or self.spacing is not None:
            return self
        tuning = None if run is None or self.edit.given else Tuning.of(run)
        setting = None if tuning is None else tuning.choose(self.steps, self.effort)
        if setting is not None:
            return replace(self, steps=setting.steps, solver=setting.solver, spacing=setting.spacing, effort=None)
        return self if self.effort is None else replace(self, steps=STEPS[self.effort], effort=None)

    def explicit(self, sampling: Sampling, run: Opened | None) -> SampleRequest:
        """Return the request with each default of the sampler written out. sampling: the request, prepared for its model."""
        found, denoiser = self.settled(run), denoising(sampling.model)
        if denoiser is None:
            return found
        usual = denoiser.usual_guidance(sampling.condition)
        scale = usual if found.guidance.scale is None and usual != 1 else found.guidance.scale
        steps = USUAL_STEPS if found.steps is None and not isinstance(found.spacing, tuple) else found.steps
        guidance = replace(found.guidance, scale=scale)
        return replace(found, solver=found.solver or SOLVER, spacing=found.spacing or SPACING, steps=steps, guidance=guidance)

    def prepare(self, model: GenerativeModel, spec: DataSpec | None = None, run: Opened | None = None) -> Sampling:
        """Prepare the request for a model.

        Args:
            model: the model that draws.
            spec: the description of the model's data, for picture files. None: that of the run, if there is one.
            run: the run of the model, whose checkpoints guidance can name.

        Raises:
            UsageError: if the request does not fit the model.
        """
        if self.effort is not None and "steps" not in model.options:
            raise UsageError(f"`{self.effort}` chooses between samplers, and this model has only one: leave it out")
        spec = run.spec if spec is None and run is not None else spec
        sampler = self.settled(run)
        seeds = self.chosen_seeds()
        edit = self.edit.edit(model, spec)
        condition = self.conditions.condition(model, spec, len(seeds))
        how = {"steps": sampler.steps, "solver": sampler.solver, "spacing": sampler.spacing, "edit": edit, **self.options}
        given = {name: value for name, value in how.items() if value is not None}
        encoded, options = model.edited(len(seeds), condition, given)
        options |= self.guidance.options(model, encoded, run)
        model.check_options(options)
        SampleNoise(seeds)  # which refuses seeds that are out of range
        return Sampling(model, seeds, encoded, options, self.batch, self.conditions.columns)

    def run(self, subject: GenerativeModel | Opened | str | Path) -> Tensor:
        """Draw the samples from a model, or from the model of a run folder or of a saved model's."""
        if isinstance(subject, GenerativeModel):
            return self.prepare(subject).sample()
        run = subject if isinstance(subject, Opened) else opened(subject)
        return self.prepare(run.load_model(self.device, self.precision), run=run).sample()
