"""The adversarial family in a recipe."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.base import FamilyRecipe, units
from ancestral.builtin import built_in
from ancestral.models.gan import GAN
from ancestral.models.objectives import Name, Penalties
from ancestral.networks.adversarial import adversarial_networks, spectral

SMALL = 10_000  # a discriminator memorises fewer training samples than this
TINY = 256  # numbers in a picture or signal up to which the cost of a step hardly depends on the batch


@built_in("family", "gan")
class GANRecipe(FamilyRecipe):
    """A generative adversarial network."""

    training: ClassVar[dict[str, Any]] = {
        "lr": 1e-3,
        "beta1": 0.0,
        "beta2": 0.99,
        "warmup": 100,
        "decay": 0.5,
        "clip": 100.0,
        "ema": 0.1,
    }

    family: Literal["gan"] = "gan"
    condition_dropout: float = Field(
        0.1, gt=0, le=1, description="rate at which training drops the condition, so that sampling can leave it out"
    )
    objective: Name = Field("relativistic", description="objective of the two players")
    r1: float | None = Field(
        None, ge=0, description="weight of the penalty of D's gradient at data; None: one that suits the objective"
    )
    r2: float | None = Field(
        None, ge=0, description="weight of the penalty of D's gradient at samples; None: one that suits the objective"
    )
    gp: float | None = Field(
        None, ge=0, description="weight of the gradient penalty between data and samples; None: one that suits the objective"
    )
    lazy: int = Field(4, ge=1, description="penalties are computed for every n-th sample")
    spectral: bool | None = Field(None, description="spectral normalisation of the discriminator; None: with hinge")
    augment: float | None = Field(
        None, ge=0, le=1, description="share of augmented samples for D; None: 0.2 for small sets of images or signals"
    )
    latent: int | None = Field(None, ge=1, description="dimensions of the latent")
    width: int | None = Field(None, ge=1, description="features of the networks' finest level")
    channels: tuple[int, ...] | None = Field(None, min_length=1, description="features of each level; overrides width")
    blocks: int | None = Field(None, ge=1, description="residual blocks per level")
    patch: int | None = Field(None, ge=1, description="size of the patches that are folded into channels")

    def accepts(self, spec: DataSpec) -> tuple[str, ...]:
        return ("vector", "channels") if len(spec.shape) == 3 else ("vector",)

    def suitable(self, spec: DataSpec) -> dict[str, Any]:
        """Return small batches for pictures and signals. By measurement, more steps are better than larger ones."""
        return self.training | ({"batch": 32 if spec.dims <= TINY else 16} if len(spec.shape) > 1 else {})

    def build(self, spec: DataSpec) -> GAN:
        conditioner = self.conditioner(spec)
        generator, discriminator = adversarial_networks(
            spec.shape,
            width=self.width,
            channels=self.channels,
            blocks=self.blocks,
            patch=self.patch,
            latent=self.latent,
            context=conditioner.widths,
        )
        if self.objective == "hinge" if self.spectral is None else self.spectral:
            spectral(discriminator)
        altered = 0.2 if spec.size < SMALL and len(spec.shape) > 1 else 0.0
        return GAN(
            generator,
            discriminator,
            spec.shape,
            objective=self.objective,
            penalties=self.penalties(spec),
            augmented=pick(self.augment, altered),
            conditioner=conditioner,
            **units(spec),
        )

    def penalties(self, spec: DataSpec) -> Penalties:
        """Return the penalties. Defaults depend on the objective and are those of its paper."""
        usual = {"relativistic": (gamma(spec), gamma(spec), 0.0), "wasserstein": (0.0, 0.0, 10.0)}
        r1, r2, gp = usual.get(self.objective, (0.0, 0.0, 0.0))
        return Penalties(pick(self.r1, r1), pick(self.r2, r2), pick(self.gp, gp), self.lazy)


def pick(asked: float | None, suits: float) -> float:
    return suits if asked is None else asked


def gamma(spec: DataSpec) -> float:
    """Return the weight of R1 and R2, which was measured and grows with the number of pixels."""
    return 0.1 if len(spec.shape) == 1 else 1.0 if spec.dims <= TINY else 3.0
