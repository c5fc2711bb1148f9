"""The first stage of latent diffusion (Rombach et al. 2022, arXiv:2112.10752; Esser et al. 2021, arXiv:2012.09841).

An encoder shrinks each side of a picture by f to a small map of latents, and a decoder reconstructs the picture. Only details
that people do not see should be lost. With q(z | x) a Gaussian at each position, or a codebook, the autoencoder minimises

    J_AE = D/2 [log(2 pi s^2) + e/s^2] + beta KL(q(z | x) || p(z)) + lambda J_G(critic(x_hat))                       (1)
    e    = |x - x_hat|^2 / D + w d(x, x_hat)                                                                       (2)

with d the perceptual distance and s^2 = E[e], the variance that minimises the first term. So s^2 needs no tuning, and the terms
are in nats (Rybkin et al. 2021, arXiv:2006.13202, eq. 5). A critic of patches is trained against the decoder. Its weight

    lambda = weight |grad_W J_rec| / |grad_W J_G|,     W the decoder's last layer       (Esser et al. 2021, eq. 7)         (3)

keeps its gradient at this share of the reconstruction's. The critic is not trained in the first part of the training. Then it
learns for a while before its loss is used, because the gradients of an untrained critic are noise and would damage the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.configuration import configurable
from ancestral.fidelity import fidelity, words
from ancestral.models.base import GenerativeModel, Player
from ancestral.models.capabilities import Diagnosis
from ancestral.models.codec import Encoding, LatentCodec
from ancestral.models.gan import frozen
from ancestral.models.objectives import OBJECTIVES, Name, spread
from ancestral.networks.imagenet import Perceptual
from ancestral.networks.patch import PatchCritic, difference
from ancestral.noise import Noise
from ancestral.schedules import CLEAN
from ancestral.solvers import State

ALONE = 0.1  # share of the training in which the critic learns before its loss is used
LARGEST = 1e6  # largest lambda


@configurable
class Autoencoder(GenerativeModel):
    """The autoencoder of the first stage.

    `coder` has q(z | x) and the decoder, with latents flattened by position; `latent_shape` is `(c, *space)` of their map.
    Without a `critic` there is no adversarial term. `perceptual` is d of eq. 2; if it is None, the critic's features replace
    it once the critic's loss is used. d is computed for every `share`-th sample, with `share` times the weight. `weight` is
    that of eq. 3. `heard` is the progress from which the critic's loss is used.
    """

    family = "autoencoder"
    unrecorded = ("perceptual",)  # only training needs it

    def __init__(
        self,
        coder: LatentCodec,
        shape: Sequence[int],
        latent_shape: Sequence[int],
        critic: PatchCritic | None = None,
        perceptual: Perceptual | None = None,
        *,
        beta: float = 1.0,
        perceptual_weight: float = 1.0,
        share: int = 1,
        objective: Name = "hinge",
        weight: float = 0.5,
        heard: float = 0.6,
        notes: tuple[str, ...] = (),
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        bounds: tuple[float, float] | None = None,
    ):
        super().__init__(shape, mean=mean, std=std, bounds=bounds)
        self.coder = coder
        self.latent_shape = tuple(latent_shape)
        self.patches = critic
        self.perceptual = [perceptual] if perceptual is not None else []  # in a list, so that it is not trained or saved
        self.beta, self.perceptual_weight, self.share = beta, perceptual_weight, share
        self.objective, self.weight, self.heard = OBJECTIVES[objective], weight, heard
        self.notes = notes
        self.progress = 0.0

    def players(self) -> tuple[Player, ...]:
        """Return the players: the critic, if there is one, and the autoencoder."""
        own = Player("autoencoder", tuple(self.coder.parameters()))
        return (own,) if self.patches is None else (Player("critic", tuple(self.patches.parameters())), own)

    def on_progress(self, progress: float) -> None:
        self.progress = progress

    def losses(self, batch: Batch, player: str, noise: Noise) -> dict[str, Tensor]:
        """Return eq. 1, {"total", "error": e, "kl", "perceptual": d, "weight": lambda}, or the critic's loss, `(n,)` each."""
        x = self.standardize.normalize(batch.x)
        if player == "critic":
            return self._critic_loss(x, noise) if self.progress >= self.heard - ALONE else {}
        with torch.enable_grad():
            code, x_hat = self._coded(x, noise)
            seen = x_hat.detach().requires_grad_()
            reconstruction, terms = self._reconstruction(x, seen, batch)
            pull = _gradient(reconstruction, seen)
            total = reconstruction.detach()
            if self.patches is not None and self.progress >= self.heard:
                adversarial = self._adversarial(x, seen)
                push = _gradient(adversarial, seen)
                weight = self.weight * self.ratio(x_hat, pull, push, batch)
                total, pull = total + weight * adversarial.detach(), pull + weight * push
                terms["weight"] = weight * self.loss_unit * torch.ones_like(adversarial)
            total = total + _carry(pull, x_hat) + self.beta * code.kl.sum(1)
            if code.penalty is not None:
                total = total + code.penalty
        self.coder.record(batch, code, noise)
        return {"total": total, **terms, "kl": code.kl.sum(1)}

    def networks(self) -> tuple[nn.Module, ...]:
        """Return the encoder and the decoder."""
        return self.coder.networks()

    @property
    def compilable(self) -> tuple[nn.Module, ...]:
        return ()  # losses are differentiated in the decoder's last layer first

    def after_step(self, player: str, sums: Mapping[str, Tensor], n: int) -> None:
        """Update the codebook, which is not learned by gradient."""
        if player == "autoencoder":
            self.coder.after_step(sums)

    def _reconstruction(self, x: Tensor, x_hat: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the first term of eq. 1 `(n,)`."""
        e = (x - x_hat).square().flatten(1).mean(1)
        terms = {"error": e.detach() * self.dimensions}
        if self.perceptual:
            self.perceptual[0].to(x.device)
            rows, ratio = batch.every(self.share)
            d = spread(self.perceptual[0](*(self._pixels(y[rows]) for y in (x, x_hat))), rows, len(x), ratio)
            terms["perceptual"] = d.detach() * self.dimensions
            e = e + self.perceptual_weight * d
        s2 = batch.mean(e).clamp(min=1e-8)
        return self.dimensions / 2 * ((2 * math.pi * s2).log() + e / s2), terms

    def _adversarial(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return J_G `(n,)`, plus the distance of the critic's features if there is no perceptual distance."""
        assert self.patches is not None
        with frozen(self.patches):
            fake, here = self.patches(x_hat)
            real, there = None, None
            if self.objective.paired or not self.perceptual:
                with torch.no_grad():
                    real, there = self.patches(x)
            adversarial = self.objective.generator(fake, real).mean(1)
            return adversarial if self.perceptual or there is None else adversarial + difference(there, here)

    def _critic_loss(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the critic's loss."""
        assert self.patches is not None
        with torch.no_grad():
            x_hat = self._coded(x, noise)[1]
        logits, _ = self.patches(torch.cat([x, x_hat]))
        real, fake = logits.chunk(2)
        return {"total": self.objective.discriminator(real, fake).mean(1) * self.loss_unit}

    def ratio(self, x_hat: Tensor, pull: Tensor, push: Tensor, batch: Batch) -> Tensor:
        """Return eq. 3 from the gradients of both losses in x_hat, which the last layer carries back to its weights W."""
        W = cast(nn.Parameter, self.coder.decoder.head.conv.weight)  # type: ignore[union-attr]
        gradients = [torch.autograd.grad(x_hat, W, g, retain_graph=True)[0] for g in (pull, push)]
        along, against = (torch.linalg.vector_norm(batch.average(g)) for g in gradients)
        return torch.clamp(along / against.clamp(min=1e-12), max=LARGEST)

    def _coded(self, x: Tensor, noise: Noise | None) -> tuple[Encoding, Tensor]:
        """Return the encoding of x and its reconstruction, in model units."""
        context = Context()
        code, h = self.coder(self.coder.features(x, context), context, noise)
        return code, h.float()

    def _pixels(self, x: Tensor) -> Tensor:
        return x * self.standardize.std + self.standardize.mean  # not clamped, so that gradients pass outside of the range

    def sample_path(self, noise: Noise, context: Context) -> Iterator[State]:
        """Decode z ~ p(z). This prior is poor, and the second stage replaces it."""
        yield State(self.coder.decode(self.coder.prior(noise), context).float(), CLEAN, None, 1, 1, 1)

    def encode(self, x: Tensor, condition: Any = None) -> Tensor:
        """Return the means of q(z | x) `(n, c, *space)`."""
        with self.evaluation():
            z = self.coder.code(self.coder.features(self.standardize.normalize(x), Context()), None).z.float()
        return z.view(len(x), *self.latent_shape[1:], self.latent_shape[0]).movedim(-1, 1)

    def decode(self, z: Tensor, condition: Any = None) -> Tensor:
        """Decode latents `(n, c, *space)` to samples `(n, *shape)` in the units of the data."""
        with self.evaluation():
            return self.standardize.denormalize(self.coder.decode(z.movedim(1, -1).flatten(1), Context()).float())

    def reconstruct(self, x: Tensor, condition: Any = None) -> Tensor:
        """Encode and decode samples."""
        return self.decode(self.encode(x))

    def critic(self, x: Tensor, condition: Any = None) -> Tensor:
        """Return the mean logit of a sample's patches `(n,)`, 0 without a critic."""
        if self.patches is None:
            return x.new_zeros(len(x))
        with self.evaluation():
            mean: Tensor = self.patches(self.standardize.normalize(x))[0].mean(1)
        return mean

    def diagnose(self, train: Batch, test: Batch, noise: Noise) -> Diagnosis:
        """Measure the reconstruction of held-out samples, and count the used numbers of a latent."""
        z = self.encode(train.x)
        numbers, findings = self.coder.diagnose()
        returned = fidelity(test.x, self.reconstruct(test.x), self.standardize.bounds)
        numbers |= returned | {"latent_std": z.std((0, *range(2, z.ndim))).mean().item()}
        return Diagnosis(numbers, words(returned), findings)


def _gradient(loss: Tensor, at: Tensor) -> Tensor:
    """Return the gradient of the batch's mean."""
    (g,) = torch.autograd.grad(loss.mean(), at)
    return g


def _carry(g: Tensor, x: Tensor) -> Tensor:
    """Return zeros `(n,)` whose mean has the gradient g in x, so that a loss is not differentiated twice."""
    return ((x - x.detach()) * g).flatten(1).sum(1) * len(x)
