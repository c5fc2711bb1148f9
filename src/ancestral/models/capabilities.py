"""Capabilities that only some families have, as protocols that are checked at run time.

A family has a capability if it has its methods. Code that needs one checks `isinstance(model, HasBound)`, not the name of the
family.
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
    """A model with a latent space, a known prior and a decoder."""

    latent_shape: tuple[int, ...]

    def decode(self, z: Tensor, condition: Any = None) -> Tensor:
        """Decode latents `(n, *latent_shape)` to samples `(n, *shape)` in the units of the data."""


@runtime_checkable
class HasLatent(HasDecoder, Protocol):
    """A model with a latent space, an encoder and a decoder."""

    def encode(self, x: Tensor, condition: Any = None) -> Tensor:
        """Encode samples in the units of the data to the means of their latents."""


@runtime_checkable
class HasReconstruction(HasLatent, Protocol):
    """A model whose encoder loses a part of a sample."""

    def reconstruct(self, x: Tensor, condition: Any = None) -> Tensor:
        """Encode and decode samples `(n, *shape)` in the units of the data."""


@runtime_checkable
class HasPrior(HasDecoder, Protocol):
    """A model whose latents are not always drawn from N(0, I)."""

    def draw_latent(self, noise: Noise, **how: Any) -> Tensor:
        """Return the latents from which samples with this noise are decoded."""


@runtime_checkable
class HasBound(Protocol):
    """A model with a likelihood, or a bound of it."""

    def log_prob(self, x: Tensor, condition: Any = None, *, noise: Noise | None = None, **how: Any) -> Bound:
        """Return log p(x), or a bound, of samples `(n, *shape)` in the units of the data. noise None: sample i has seed i."""


@runtime_checkable
class HasScore(Protocol):
    """A model with the score, grad log p, at every noise level, in model units."""

    def denoise(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Prediction:
        """Return the prediction for noisy samples, at a level or at a time."""

    def score(self, x_t: Tensor, t: Level | float, condition: Any = None) -> Tensor:
        """Return grad log p(x_t)."""


@runtime_checkable
class HasCritic(Protocol):
    """A model with a critic of samples."""

    def critic(self, x: Tensor, condition: Any = None) -> Tensor:
        """Return the logits `(n,)` of "real" for samples in the units of the data."""


@dataclass(frozen=True)
class Diagnosis:
    """The result of a model's health check in training.

    Args:
        numbers: numbers to plot, by name.
        line: a summary for the progress line.
        findings: sentences for the user, each with a remedy.
        failed: why further training is useless, or None.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    line: str = ""
    findings: tuple[str, ...] = ()
    failed: str | None = None

    def row(self) -> dict[str, Any]:
        """Return the diagnosis as a part of a line of metrics.jsonl."""
        return {f"health/{name}": value for name, value in self.numbers.items()} | {"findings": list(self.findings)}


@runtime_checkable
class HasDiagnosis(Protocol):
    """A model that can check itself for the typical failures of its family."""

    def diagnose(self, train: Batch, test: Batch, noise: Noise) -> Diagnosis:
        """Check the model on equally many training and held-out samples. noise: for this number of samples."""


@runtime_checkable
class HasPostFit(Protocol):
    """A model with parts that are fitted after training, not learned by gradient."""

    def fit_after(self, batch: Batch) -> None:
        """Fit these parts, which are buffers, to training samples. Called with the averaged parameters, before sampling."""


@runtime_checkable
class HasRunningState(Protocol):
    """A model with counters or running means, which training updates after each step. Losses have no side effects."""

    def after_step(self, player: str, sums: Mapping[str, Tensor], n: int) -> None:
        """Update after a player's step on a global batch of n samples.

        Args:
            player: the name of the player.
            sums: the tensors that its losses recorded (`Batch.record`), summed over the parts of the batch.
            n: the number of samples.
        """


@runtime_checkable
class HasProgress(Protocol):
    """A model whose training changes with the progress."""

    def on_progress(self, progress: float) -> None:
        """Receive the progress of its training, in [0, 1], before each step."""
