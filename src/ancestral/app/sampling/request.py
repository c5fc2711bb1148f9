"""A request for samples, and the same request checked against a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ancestral.app.data.spec import DataSpec
from ancestral.app.sampling.conditions import Conditions
from ancestral.app.sampling.edits import EditRequest
from ancestral.app.sampling.guidance import Guidance
from ancestral.app.training.saved import Opened, opened
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel, seeds_from
from ancestral.runtime import Precision
from ancestral.solvers import Solver, State

N = 64  # samples where no number is given
OF_PICTURE = 16  # samples of one picture
OF_PROMPTS = 32  # samples in all where texts are given


@dataclass(frozen=True)
class Sampling:
    """A request that fits its model: all that `model.sample` needs.

    columns: how many different conditions take turns.
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

    def batches(self) -> Iterator[Iterator[State]]:
        """The trajectories of the samples, a batch at a time."""
        return self.model.batches(self.n, self.condition, seeds=self.seeds, batch=self.batch, **self.options)

    def sample(self) -> Tensor:
        """The samples `(n, *shape)`, in the units of the data."""
        return self.model.sample(self.n, self.condition, seeds=self.seeds, batch=self.batch, **self.options)


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """What to draw, and how. What is None is left to the model. Every face of the program builds one of these.

    Args:
        n: number of samples; with prompts, of each prompt; with a sweep, number of rows. None: 64; about 32 in all with
            prompts; one of each of several classes; 16 of one picture; one row.
        seed: the seed from which the samples' own seeds are counted.
        seeds: one seed for each sample instead.
        conditions: what the samples shall be.
        guidance: how strongly, and away from what.
        edit: a picture to begin with.
        solver: a registered name or a solver.
        steps: steps of the solver.
        spacing: how the steps are spread over the noise levels.
        options: further options of the model's family: `prior` and `observe` of a VAE, `truncation` of a GAN.
        batch: samples computed at a time.
        device, precision: where and in which arithmetic a run's model is loaded.

    Raises:
        UsageError: if parts of the request contradict each other. `prepare` says what does not fit the model.
    """

    n: int | None = None
    seed: int = 0
    seeds: tuple[int, ...] | None = None
    conditions: Conditions = field(default_factory=Conditions)
    guidance: Guidance = field(default_factory=Guidance)
    edit: EditRequest = field(default_factory=EditRequest)
    solver: str | Solver | None = None
    steps: int | None = None
    spacing: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    device: str = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.seeds is not None and self.n is not None and self.n != len(self.seeds):
            raise UsageError(f"`seeds` names {len(self.seeds)} seeds and `n` asks for {self.n} samples: leave `n` out")
        if self.seeds == () or (self.n is not None and self.n < 1):
            raise UsageError("ask for at least one sample with `n`")

    def chosen_seeds(self) -> list[int]:
        """The seed of each sample."""
        asked = self.conditions
        if asked.sweep is not None:
            rows = seeds_from(self.seed, self.n or 1) if self.seeds is None else self.seeds
            return [seed for seed in rows for _ in range(asked.sweep.count)]
        if self.seeds is not None:
            return list(self.seeds)
        if asked.prompts:
            n = asked.columns * (max(1, OF_PROMPTS // asked.columns) if self.n is None else self.n)
        elif self.n is not None:
            n = self.n
        elif asked.columns > 1:
            n = asked.columns
        else:
            n = OF_PICTURE if self.edit.given else N
        return seeds_from(self.seed, n)

    def prepare(self, model: GenerativeModel, spec: DataSpec | None = None, run: Opened | None = None) -> Sampling:
        """The request for that model.

        Args:
            model: the model that draws.
            spec: of the model's data, by which picture files are read. None: that of the run, if there is one.
            run: of the model, for checkpoints that guidance names.

        Raises:
            UsageError: if the request does not fit the model.
        """
        spec = run.spec if spec is None and run is not None else spec
        seeds = self.chosen_seeds()
        edit = self.edit.edit(model, spec)
        condition = self.conditions.condition(model, spec, len(seeds))
        how = {"steps": self.steps, "solver": self.solver, "spacing": self.spacing, "edit": edit, **self.options}
        given = {name: value for name, value in how.items() if value is not None}
        told, options = model.edited(len(seeds), condition, given)
        options |= self.guidance.options(model, told, run)
        return Sampling(model, seeds, told, options, self.batch, self.conditions.columns)

    def run(self, subject: GenerativeModel | Opened | str | Path) -> Tensor:
        """Draw the samples from a model, or from the model of a run folder or of a saved model's."""
        if isinstance(subject, GenerativeModel):
            return self.prepare(subject).sample()
        run = subject if isinstance(subject, Opened) else opened(subject)
        return self.prepare(run.load_model(self.device, self.precision), run=run).sample()
