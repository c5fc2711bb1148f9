"""Latent diffusion (Rombach et al. 2022, arXiv:2112.10752; Vahdat et al. 2021, arXiv:2106.05931), two models in one.

An autoencoder maps samples to a smaller space of latents, and any generative model can learn their distribution:

    z = (E(x) - mu)/s,     z ~ prior,     x = D(s z + mu)

mu and s are the mean and deviation of each channel over the training set, so the data of the prior have mean 0 and deviation 1,
as those of any other model in its units. There is no likelihood, since D has no inverse.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Context
from ancestral.configuration import configurable
from ancestral.errors import AncestralError, UsageError
from ancestral.models.base import GenerativeModel, Player
from ancestral.models.capabilities import HasLatent
from ancestral.models.edits import Vary, check
from ancestral.noise import Noise, StreamNoise
from ancestral.solvers import State

STAGES = ("autoencoder", "prior")


@configurable
class LatentModel(GenerativeModel):
    """An autoencoder and a model of its latents, which are trained apart, in stages.

        model = LatentModel(autoencoder, prior)

    Args:
        autoencoder: a module that `HasLatent`.
        prior: a model of samples with the shape of the latents, mean 0 and deviation 1. Its conditions are this model's.
        shape, mean, std, bounds: of the data; None: those of an autoencoder that is a model itself.

    Raises:
        UsageError: if the prior is of another shape than the latents, or the shape of the data is not known.
    """

    family = "latent"
    mean: Tensor
    std: Tensor
    known: Tensor
    stages = STAGES

    def __init__(
        self,
        autoencoder: nn.Module,
        prior: GenerativeModel,
        *,
        shape: Sequence[int] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        bounds: tuple[float, float] | None = None,
    ):
        units: dict[str, Any] = {"mean": 0.0 if mean is None else mean, "std": 1.0 if std is None else std, "bounds": bounds}
        if isinstance(autoencoder, GenerativeModel):
            shape = autoencoder.shape if shape is None else shape
            units = autoencoder.standardize.units if mean is None and std is None and bounds is None else units
        if shape is None:
            raise UsageError("the autoencoder does not have the shape of the data: give shape=")
        if tuple(getattr(autoencoder, "latent_shape", prior.shape)) != prior.shape:
            raise UsageError(f"the latents have shape {tuple(cast(Any, autoencoder).latent_shape)} and the prior {prior.shape}")
        super().__init__(shape, conditioner=prior.conditioner, **units)
        del self.conditioner  # registered once, as the prior's: see below
        self.autoencoder, self.prior = autoencoder, prior
        self.latent_shape = prior.shape
        per_channel = (prior.shape[0], *[1] * (len(prior.shape) - 1))
        self.register_buffer("mean", torch.zeros(per_channel))
        self.register_buffer("std", torch.ones(per_channel))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))

    @property
    def conditioner(self) -> Conditioner:  # type: ignore[override]
        return self.prior.conditioner

    @property
    def coder(self) -> HasLatent:
        return cast(HasLatent, self.autoencoder)

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options of the prior's sampler."""
        return self.prior.options

    def resolve(self, raw: Mapping[str, Tensor], n: int, how: Mapping[str, Any]) -> Mapping[str, Any]:
        """Convert options for samples to options for latents. Raises UsageError for an edit without meaning for latents."""
        weak, edit = how.get("weak"), how.get("edit")
        if isinstance(weak, LatentModel):
            if not self._shares_latents(weak):
                raise UsageError("a weak model must have the same latents: train its prior on this model's autoencoder")
            how = {**how, "weak": weak.prior}
        if isinstance(edit, Vary):
            check(edit.x, n, *self.shape)
            how = {**how, "edit": replace(edit, x=self.encode(edit.x.to(self.device)))}
        elif edit is not None:
            raise UsageError("a part of a picture does not determine its latents: a latent model can only vary pictures")
        return self.prior.resolve(raw, n, how)

    def _shares_latents(self, other: LatentModel) -> bool:
        """Return whether the other model has the same autoencoder and the same normalisation, up to rounding."""
        a, b = (m.autoencoder.state_dict() for m in (self, other))
        same = a.keys() == b.keys() and all(a[k].shape == b[k].shape and torch.equal(a[k].cpu(), b[k].cpu()) for k in a)
        alike = [(self.mean, other.mean, 1e-3 * self.std), (self.std, other.std, 1e-3 * self.std)]
        return same and all(bool(((p - q.to(p)).abs() <= least).all()) for p, q, least in alike)

    @property
    def compilable(self) -> tuple[nn.Module, ...]:
        return self.prior.compilable

    def players(self) -> tuple[Player, ...]:
        """Return no players, because each stage has its own."""
        return ()

    def losses(self, batch: Batch, player: str, noise: Noise) -> dict[str, Tensor]:
        raise NotImplementedError("a latent model is trained in stages")

    def loss(
        self, x: Tensor, condition: Mapping[str, Any] | None = None, seed: int = 0, *, player: str | None = None
    ) -> dict[str, Tensor]:
        """Return the prior's loss of latents, or that of a player of the autoencoder; see `GenerativeModel.loss`.

        Raises:
            UsageError: also if the mean and deviation of the latents are not known yet; `measure` computes them.
        """
        self._fits(x)
        first = self.autoencoder
        if isinstance(first, GenerativeModel) and player in [p.name for p in first.players()]:
            return first.loss(x, seed=seed, player=player)
        if not self.known:
            raise UsageError("the mean and deviation of the latents are not known yet: call `model.measure(latents)` first")
        noise = StreamNoise(len(x), seed, 0, x.device)
        raw = self._raw(x, condition, noise)
        with torch.no_grad():
            z = self.encode(x)
        return self.prior.losses(Batch(z, raw), player or self.prior.players()[0].name, noise)

    def measure(self, raw: Tensor) -> None:
        """Compute mu and s from latents `(n, c, *space)` of the training set. Constant channels have s = 1."""
        axes = (0, *range(2, raw.ndim))
        raw = raw.cpu().double()
        s = raw.std(axes, unbiased=False)
        self.mean.copy_(raw.mean(axes).view_as(self.mean))
        self.std.copy_(torch.where(s > 1e-6, s, 1.0).view_as(self.std))
        self.known.fill_(True)

    def encode(self, x: Tensor, condition: Any = None) -> Tensor:
        """Encode samples in the units of the data to normalised latents `(n, c, *space)`."""
        with self.evaluation():
            return (self.coder.encode(x).float() - self.mean) / self.std

    def decode(self, z: Tensor, condition: Any = None) -> Tensor:
        """Decode normalised latents to samples in the units of the data."""
        with self.evaluation():
            return self.standardize.denormalize(self.standardize.normalize(self.coder.decode(z * self.std + self.mean).float()))

    def reconstruct(self, x: Tensor, condition: Any = None) -> Tensor:
        """Encode and decode samples."""
        return self.decode(self.encode(x))

    def sample_path(self, noise: Noise, context: Context, **how: Any) -> Iterator[State]:
        """Yield the prior's states, which are latents. `to_data` decodes them."""
        if not self.known:
            raise AncestralError("only the autoencoder of this run is trained so far: continue it with `ancestral train`")
        return self.prior.sample_path(noise, context, **how)

    def to_data(self, x: Tensor) -> Tensor:
        return self.decode(self.prior.standardize.denormalize(x.float()))

    def draw_latent(self, noise: Noise, context: Context | None = None, **how: Any) -> Tensor:
        """Return the normalised latents from which samples with this noise are decoded."""
        context = context if context is not None else self.conditioner.null(noise.n)
        last = deque(self.sample_path(noise, context, **how), maxlen=1).pop()
        return self.prior.standardize.denormalize(last.x.float())
