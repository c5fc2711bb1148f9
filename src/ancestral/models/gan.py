"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661): a game of generator and discriminator.

        V(D, G) = 1/2 E_x [log D(x)] + 1/2 E_z [log(1 - D(G(z)))],      min_G max_D V                                  (1)

`D(x) = sigmoid(l(x))`. At the equilibrium q = p and D = 1/2, so that -2 V = log 4. For any other G, V at the best D is
JSD(p, q) - log 2. The players minimise an `Objective` in place of V. `Penalties` make training converge in cases in which plain
gradient steps go in circles or diverge (Mescheder et al. 2018). Sampling is one step: z ~ N(0, I), x = G(z). There is no
likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner, Context
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.models.augment import augment
from ancestral.models.base import GenerativeModel, Player
from ancestral.models.capabilities import Diagnosis
from ancestral.models.health.gan import Standing
from ancestral.models.objectives import OBJECTIVES, Name, Penalties
from ancestral.networks.adversarial import hold, iterate
from ancestral.networks.contract import taking_context
from ancestral.noise import Noise
from ancestral.schedules import CLEAN
from ancestral.solvers import State


@configurable
class GAN(GenerativeModel):
    """A generative adversarial network: a generator and a critic.

        model = GAN(generator, critic, shape=(1, 28, 28), latent=64)

    The conditioner is trained with the generator. The critic reads its vectors and does not train them.

    Args:
        generator: any module (z `(n, latent)`, context) -> samples `(n, *shape)`. It may also take only (z).
        critic: the discriminator, any module (samples `(n, *shape)`, context) -> logits `(n,)`. It may also take only samples.
        shape: of one sample.
        latent: numbers in z; None: the generator's attribute `latent`.
        objective: the losses of the players. penalties: those of the critic's gradients.
        augmented: the share of samples that are augmented for the critic, for small data.
        mean, std, bounds: the units of the data, see `Standardize`.
        conditioner: encodes the conditions; None: the model has none.

    Raises:
        UsageError: if the size of z is not known, or a network takes other inputs.
    """

    family = "gan"
    turns: Tensor

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        shape: Sequence[int],
        *,
        latent: int | None = None,
        objective: Name = "relativistic",
        penalties: Penalties | None = None,
        augmented: float = 0.0,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        bounds: tuple[float, float] | None = None,
        conditioner: Conditioner | None = None,
    ):
        super().__init__(shape, mean=mean, std=std, bounds=bounds, conditioner=conditioner)
        conditional = bool(len(self.conditioner.kinds))
        self.generator = taking_context(generator, "z", conditional=conditional)
        self.discriminator = taking_context(critic, "x")
        self.objective = OBJECTIVES[objective]
        self.penalties = penalties or Penalties()
        self.augmented = augmented
        latent = getattr(generator, "latent", None) if latent is None else latent
        if not isinstance(latent, int):
            raise UsageError("the generator has no attribute `latent`, the numbers in z: give latent=")
        self.latent_shape: tuple[int, ...] = (latent,)
        self.register_buffer("turns", torch.zeros((), dtype=torch.long))  # the generator's turns so far

    @property
    def loss_unit(self) -> int:
        """The unit 1, because the losses of the players are scores, not sums over dimensions."""
        return 1

    @property
    def compilable(self) -> tuple[nn.Module, ...]:
        return (self.generator,)

    def players(self) -> tuple[Player, ...]:
        """Return the players: the discriminator, then the generator."""
        return (
            Player("discriminator", tuple(self.discriminator.parameters())),
            Player("generator", (*self.generator.parameters(), *self.conditioner.parameters())),
        )

    def networks(self) -> tuple[nn.Module, ...]:
        """Return the generator, and the discriminator unless `after_step` reads its weights for spectral normalisation."""
        free = not any(parametrize.is_parametrized(module) for module in self.discriminator.modules())
        return (self.generator, self.discriminator) if free else (self.generator,)

    def losses(self, batch: Batch, player: str, noise: Noise) -> dict[str, Tensor]:
        """Return the player's loss by the objective, and D's penalties, `(n,)` each."""
        n, z = len(batch), noise.normal(self.latent_shape)
        x = self.standardize.normalize(batch.x)
        if player == "discriminator":
            with torch.no_grad():
                context = self.conditioner(batch.conditions, n, noise)
                fake = self.generator(z, context).float()
            real_l, fake_l, penalties = self.penalties(
                lambda x, rows: self.logits(x, context, rows),
                self.discriminator_input(x, noise),
                self.discriminator_input(fake, noise),
                noise.uniform(),
                batch.every(self.penalties.lazy),
            )
            total = self.objective.discriminator(real_l, fake_l) + sum(penalties.values())
            return {"total": total, **penalties}
        context = self.conditioner(batch.conditions, n, noise)
        fake = self.generator(z, context).float()
        with frozen(self.discriminator):
            fake_l = self.logits(self.discriminator_input(fake, noise), context)
            other_l = self.logits(self.discriminator_input(x, noise), context) if self.objective.paired else None
        return {"total": self.objective.generator(fake_l, other_l)}

    def train(self, mode: bool = True) -> Self:
        """Set the mode as in torch. Spectral normalisations stay in evaluation mode, because `after_step` iterates them."""
        super().train(mode)
        hold(self.discriminator)
        return self

    def after_step(self, player: str, sums: Mapping[str, Tensor], n: int) -> None:
        """Count the generator's turns, and make one power iteration of spectral normalisations of the discriminator."""
        if player == "generator":
            self.turns += 1
        else:
            iterate(self.discriminator)

    def logits(self, x: Tensor, context: Context, rows: Tensor | None = None) -> Tensor:
        """Return D's logits `(n,)`, float32, for x in model units. D's loss gives no gradient to the context."""
        fixed = context.detach()
        l: Tensor = self.discriminator(x, fixed if rows is None else fixed.take(rows))
        return l.float()

    def discriminator_input(self, x: Tensor, noise: Noise) -> Tensor:
        """Return the samples as D gets them in training, some of them augmented."""
        return augment(x, noise, self.augmented) if self.augmented else x

    def sample_path(self, noise: Noise, context: Context, *, truncation: float = 1.0) -> Iterator[State]:
        """Yield G(truncation z). Below 1, samples are more typical and less varied; 0 gives the mean sample."""
        if truncation < 0:
            raise UsageError(f"truncation is a number from 0 (all alike) to 1 (as trained); got {truncation:g}")
        yield State(self.generator(truncation * noise.normal(self.latent_shape), context), CLEAN, None, 1, 1, 1)

    def decode(self, z: Tensor, condition: Any = None) -> Tensor:
        """Return G(z) `(n, *shape)` in the units of the data. condition: a Context, or a condition as in `sample`."""
        with self.evaluation():
            return self.standardize.denormalize(self.generator(z, self.conditioner.context(condition, z.shape[0])).float())

    def critic(self, x: Tensor, condition: Any = None) -> Tensor:
        """Return D's logits `(n,)` for samples in the units of the data."""
        with self.evaluation():
            return self.logits(self.standardize.normalize(x), self.conditioner.context(condition, len(x)))

    def diagnose(self, train: Batch, test: Batch, noise: Noise) -> Diagnosis:
        """Check the balance of the players on equally many training, held-out and generated samples."""
        n, z = len(train), noise.normal(self.latent_shape)
        contexts = self.conditioner(train.conditions, n), self.conditioner(test.conditions, n)
        fake = self.generator(z, contexts[0]).float()
        real, held_out = self.standardize.normalize(train.x), self.standardize.normalize(test.x)
        return Standing(
            objective=self.objective,
            real=self.logits(real, contexts[0]),
            fake=self.logits(fake, contexts[0]),
            held_out=self.logits(held_out, contexts[1]),
            x=held_out,
            y=fake,
            turns=int(self.turns),
            augmented=self.augmented > 0,
        ).diagnosis()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradients of the network's parameters inside, which saves a third of the backward pass."""
    learning = [p for p in network.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)
