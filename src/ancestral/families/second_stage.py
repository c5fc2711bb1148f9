"""The second stage at work (Dai & Wipf 2019): which p(z) a latent comes from, and what is fitted once a VAE's networks stand.

What latents have to say differs with what the decoder is told beside them: there is a mixture for latents of which nothing is
asked, and one, about A c, where something is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.errors import UsageError
from ancestral.families.codes import log_standard
from ancestral.families.mixture import Mixture
from ancestral.names import unknown
from ancestral.observation import GaussianLikelihood
from ancestral.randomness import Noise, StreamNoise

if TYPE_CHECKING:
    from ancestral.families.vae import VAE

Prior = Literal["aggregate", "standard"]
SETTLE_KEY = 2**61  # of the noise with which the mixtures are fitted, beyond any step's
PART = 512  # samples at a time where there are many


def draw(model: VAE, noise: Noise, prior: Prior, context: Context | None) -> Tensor:
    """Z ~ p(z) `(n, d)`; context: None where nothing is asked. Raises UsageError for an unknown prior."""
    if _known(prior) == "standard":
        return model.coder.prior(noise)
    return _aggregate(model, context, noise.n, lambda mixture, c: mixture.draw(noise, c))


def log_density(model: VAE, z: Tensor, prior: Prior, context: Context | None) -> Tensor:
    """Log p(z) `(n,)`. Raises UsageError for an unknown prior, and for the mixtures of codes that have no density."""
    if _known(prior) == "standard":
        return log_standard(z)
    if not model.coder.continuous:
        raise UsageError("the second-stage prior is a density, and these codes are whole numbers: choose prior='standard'")
    return _aggregate(model, context, len(z), lambda mixture, c: mixture.log_prob(z, c))


def fit(model: VAE, batch: Batch) -> None:
    """The mixtures to draws of q(z | x), the optimal variance to the errors; `activity` is how much each dimension moves."""
    gaussian = model.likelihood if isinstance(model.likelihood, GaussianLikelihood) else None
    stages: list[tuple[dict[str, Tensor], Mixture]] = [({}, model.mixture)]
    if model.mixture_given is not None:
        stages.append((batch.conditions, model.mixture_given))
    for conditions, mixture in stages:
        draws, centres, errors, told = [], [], [], []
        for start in range(0, len(batch), PART):
            x = batch.x[start : start + PART]
            context = model.conditioner({name: c[start : start + PART] for name, c in conditions.items()}, len(x))
            noise = StreamNoise(len(x), 0, SETTLE_KEY + start, model.device)
            code, h = model.coder(model.coder.features(model.scaling.encode(x), context), context, noise)
            if gaussian is not None:
                errors.append(gaussian.error(gaussian(h.float()).mean, x) * len(x))
            draws.append(code.z)
            centres.append(code.z if code.q is None else code.q.mean)
            if mixture is model.mixture_given:
                told.append(_numbers(context))
        mixture.fit(torch.cat(draws), torch.cat(told) if told else None)
    model.activity.copy_(torch.cat(centres).var(0))
    if gaussian is not None and gaussian.variance == "optimal":
        gaussian.value.copy_((torch.stack(errors).sum() / len(batch)).clamp(min=1e-8))


def _aggregate(model: VAE, context: Context | None, n: int, ask: Callable[[Mixture, Tensor | None], Tensor]) -> Tensor:
    """What the mixtures answer for n samples, each the one that is meant for it."""
    free = ask(model.mixture, None)
    if model.mixture_given is None or context is None:
        return free
    null = model.conditioner.null(n)
    pairs = ((context.vector, null.vector), (context.channels, null.channels))
    differs = [a.ne(b).flatten(1).any(1) for a, b in pairs if a is not None and b is not None]
    told = torch.stack(differs).any(0).view(-1, *[1] * (free.ndim - 1))
    return torch.where(told, ask(model.mixture_given, _numbers(context)), free)


def _known(prior: Prior) -> Prior:
    """Raises UsageError for another."""
    if prior not in ("aggregate", "standard"):
        raise UsageError(unknown("prior", prior, ("aggregate", "standard")))
    return prior


def _numbers(context: Context) -> Tensor:
    """What a context says in numbers c `(n, told)`: its vector, and the means of its channels."""
    parts = [context.vector, None if context.channels is None else context.channels.mean((2, 3))]
    return torch.cat([part.float() for part in parts if part is not None], 1)
