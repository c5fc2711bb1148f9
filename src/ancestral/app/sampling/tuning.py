"""The sampler that `ancestral tune` measured to be best for a run: solvers and noise levels for several numbers of steps.

It is stored as `tuning.json` in the folder of the run, with the checksum of the weights to which it was fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ancestral.app import migration, records
from ancestral.app.training.saved import Opened, weights_of

FILE = "tuning.json"
Effort = Literal["quick", "best"]
STEPS: Mapping[Effort, int] = {"quick": 8, "best": 50}  # of the default sampler, where a run was not tuned


@dataclass(frozen=True)
class Setting:
    """A sampler of one number of steps, each of which is one evaluation of the network.

    Args:
        steps: the number of steps.
        solver: the name of the solver.
        spacing: the times from 1 to 0, or the name of a built-in spacing if no fitted times were better.
        error: the mean distance of its samples from the exact solution, as a root mean square over the dimensions, in units of
            the data's deviation. It is measured on other samples than those of the fit.
        before: the same of the default solver and spacing with as many steps.
    """

    steps: int
    solver: str
    spacing: str | tuple[float, ...]
    error: float
    before: float

    def __str__(self) -> str:
        where = f"the spacing {self.spacing}" if isinstance(self.spacing, str) else "fitted noise levels"
        return f"{self.steps} steps of {self.solver} at {where}"


@dataclass(frozen=True)
class Tuning:
    """The settings of a run and what was measured to choose between them.

    Args:
        weights: the checksum of the weights.
        settings: by their number of steps, the fewest first.
        usual: the number of steps that is used if none is asked for: the fewest whose samples are near the exact solution.
            None: no setting is near it, and the default sampler remains.
        best: the number of steps after which more change nothing, or the most measured.
        reference: the error of the default sampler with its own number of steps.
        spacings: the errors of the default solver by spacing and number of steps.
        guidance: the scale of guidance at which all was measured.
        samples: the number of samples of the fit, and of the measurement.
    """

    weights: str
    settings: tuple[Setting, ...]
    usual: int | None
    best: int
    reference: float
    spacings: Mapping[str, Mapping[int, float]]
    guidance: float
    samples: int

    def of_steps(self, steps: int | None) -> Setting | None:
        """Return the setting with this number of steps, or None."""
        return next((setting for setting in self.settings if setting.steps == steps), None)

    def choose(self, steps: int | None, effort: Effort | None) -> Setting | None:
        """Return the setting for a number of steps, for one end of the scale, or that without a choice. None: the default."""
        if effort is not None:
            return self.settings[0] if effort == "quick" else self.of_steps(self.best)
        return self.of_steps(self.usual if steps is None else steps)

    def save(self, run: Opened) -> Path:
        """Write the tuning into the folder of its run."""
        records.write(run.path / FILE, asdict(self))
        return run.path / FILE

    @classmethod
    def stored(cls, run: Opened) -> Tuning | None:
        """Return the tuning in a run's folder, of any weights, or None. Raises DamageError."""
        file = run.path / FILE
        try:
            return records.read(file, cls, f"delete it, or write it again with `ancestral tune {run.path}`", migration.tuning)
        except FileNotFoundError:
            return None

    @classmethod
    def of(cls, run: Opened) -> Tuning | None:
        """Return the tuning of a run's present weights, or None."""
        found = cls.stored(run)
        return found if found is not None and found.weights == weights_of(run) else None


def stale(run: Opened) -> str | None:
    """Return a sentence if the run has a tuning of other weights, which is not used, or None."""
    if Tuning.stored(run) is None or Tuning.of(run) is not None:
        return None
    return f"{run.path / FILE} is of other weights and is not used: `ancestral tune {run.path}` fits it again"
