"""What some families can do and others cannot, as protocols that are checked at run time.

A family has a capability by having its methods; whoever needs one asks `isinstance(model, HasBound)`, not for a family's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ancestral.batch import Batch
from ancestral.likelihood import Bound
from ancestral.noise import Noise
from ancestral.prediction import Prediction
from ancestral.schedules import Level


@runtime_checkable
class HasDecoder(Protocol):
    """A latent space with a known prior, and a way from it to data."""

    latent_shape: tuple[int, ...]

    def decode(self, z: Tensor, condition: Any = None) -> Tensor:
        """Latents `(n, *latent_shape)` -> samples `(n, *shape)` in the units of the data."""


@runtime_checkable
class HasLatent(HasDecoder, Protocol):
    """A latent space with ways to and from it."""

    def encode(self, x: Tensor, condition: Any = None) -> Tensor:
        """Samples in the units of the data -> the means of their latents."""


@runtime_checkable
class HasReconstruction(HasLatent, Protocol):
    """A latent space that does not hold all of a sample."""

    def reconstruct(self, x: Tensor, condition: Any = None) -> Tensor:
        """What comes back of samples `(n, *shape)`, in the units of the data, that are encoded and decoded."""


@runtime_checkable
class HasPrior(HasDecoder, Protocol):
    """A latent space of which samples are drawn otherwise than from N(0, I)."""

    def draw_latent(self, noise: Noise, **how: Any) -> Tensor:
        """The latents from which samples with that noise are decoded."""


@runtime_checkable
class HasBound(Protocol):
    """A likelihood, or a bound of it."""

    def log_prob(self, x: Tensor, condition: Any = None, *, noise: Noise | None = None, **how: Any) -> Bound:
        """Of samples `(n, *shape)` in the units of the data. noise: None: sample i has seed i."""


@runtime_checkable
class HasScore(Protocol):
    """Grad log p at every noise level, in the models' units."""

    def denoise(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Prediction:
        """The prediction of a noisy sample, at a level or at a time."""

    def score(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Tensor:
        """Grad log p(x_t)."""


@runtime_checkable
class HasCritic(Protocol):
    """A judge of samples."""

    def critic(self, x: Tensor, condition: Any = None) -> Tensor:
        """Logits `(n,)` of "real" for samples in the units of the data."""


@dataclass(frozen=True)
class Diagnosis:
    """What a model says of its own health in training.

    numbers: to plot, by name. line: the few words of it that fit a progress line. findings: sentences for a person, each with
    what to do. failed: why going on is useless, if it is.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    line: str = ""
    findings: tuple[str, ...] = ()
    failed: str | None = None

    def row(self) -> dict[str, Any]:
        """As part of a line of metrics.jsonl."""
        return {f"health/{name}": value for name, value in self.numbers.items()} | {"findings": list(self.findings)}


@runtime_checkable
class HasDiagnosis(Protocol):
    """A model that knows the ways in which its kind fails."""

    def diagnose(self, train: Batch, test: Batch, noise: Noise) -> Diagnosis:
        """Look at itself on as many training as held-out samples; noise is for that many."""


@runtime_checkable
class HasPostFit(Protocol):
    """A model with parts that are fitted, not learned by gradient, once the rest stands."""

    def fit_after(self, batch: Batch) -> None:
        """Fit them to some training samples, in buffers; called with the averaged parameters, before samples are drawn."""


@runtime_checkable
class HasRunningState(Protocol):
    """A model with counters or running means, which training updates after each step; losses themselves change nothing."""

    def after_step(self, player: str, sums: Mapping[str, Tensor], n: int) -> None:
        """Update after a player's step on a global batch of n samples.

        sums: what its losses recorded (`Batch.record`), summed over the parts of the batch.
        """


@runtime_checkable
class HasProgress(Protocol):
    """A model that is trained otherwise at first than later."""

    def on_progress(self, progress: float) -> None:
        """Told before each step which share of its training, in [0, 1], has passed."""
