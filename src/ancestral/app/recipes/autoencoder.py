"""The first stage of latent diffusion in a recipe: an autoencoder of pictures or signals."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.base import Section, units
from ancestral.errors import UsageError
from ancestral.models.autoencoder import ALONE, Autoencoder
from ancestral.models.codec import Amortised, Diagonal, LatentCodec
from ancestral.models.objectives import Name
from ancestral.models.quantised import Quantised
from ancestral.networks import imagenet
from ancestral.networks.autoencoder import ConvDecoder, ConvEncoder, Plan
from ancestral.networks.diffusers import DiffusersAutoencoder, halvings
from ancestral.networks.patch import PatchCritic

Factor = Literal[2, 4, 8]


class AutoencoderRecipe(Section):
    """The autoencoder that a latent model trains first."""

    family: Literal["autoencoder"] = "autoencoder"
    f: Factor | None = Field(None, description="factor by which it shrinks each side; None: one that suits the size")
    share: float = Field(0.4, gt=0, lt=1, description="share of the budget for the training of the autoencoder")
    bottleneck: Literal["kl", "vq"] = Field("kl", description="kl: continuous latents near N(0, I); vq: a codebook")
    channels: int | None = Field(None, ge=1, description="numbers of a latent at each position; None: as many as suit f")
    codes: int = Field(512, ge=2, description="rows of the codebook")
    beta: float | None = Field(
        None,
        ge=0,
        description="weight of the KL term; below 1 reconstructions are better, latents harder to learn; None: suits f",
    )
    width: int | None = Field(None, ge=1, description="features of the networks' finest level")
    blocks: int | None = Field(None, ge=1, description="residual blocks per level")
    patch: int | None = Field(None, ge=1, description="size of the stem's patches")
    perceptual: float = Field(0.02, ge=0, description="weight of the perceptual distance, if its network is installed")
    adversarial: float = Field(
        0.2, ge=0, description="gradient of the critic of patches relative to that of the other terms; 0: no critic"
    )
    objective: Name = Field("hinge", description="objective of critic and autoencoder")
    heard: float = Field(0.6, gt=ALONE, le=1, description="share of the stage after which the critic's loss is used")
    lr: float = Field(2e-3, gt=0, description="peak learning rate")
    batch: int = Field(32, ge=1, description="samples per step")

    def factor(self, spec: DataSpec) -> int:
        """Return `f`, or the largest factor that leaves 7 positions per side: 4 for 28 and 32 pixels, 8 for 64; at least 2."""
        side = max(spec.shape[1:])
        return self.f or (8 if side >= 56 else 4 if side >= 24 else 2)

    def training(self) -> dict[str, Any]:
        """Return the settings of the first stage that differ from the recipe's section `train`."""
        return {"lr": self.lr, "batch": self.batch, "warmup": 30, "clip": 5.0}

    def build(self, spec: DataSpec) -> Autoencoder:
        """Build the untrained autoencoder."""
        f = self.factor(spec)
        patch = self.patch or f // 2
        if f % patch:
            raise UsageError(
                f"patches of {patch} pixels do not divide model.autoencoder.f={f}: set model.autoencoder.patch to 1, 2 or "
                f"{f // 2}"
            )
        levels, width = 1 + int(math.log2(f // patch)), self.width or 64
        plan = Plan(spec.shape, tuple(width * min(2**i, 2) for i in range(levels)), self.blocks or 1, patch)
        channels = self.channels or {2: 4, 4: 8, 8: 16}[f]
        space = plan.map_at(levels - 1)
        latent_shape = (channels, *space) if spec.is_image else (channels, space[1])
        sees = spec.is_image and spec.shape[0] in (1, 3) and spec.kind != "real" and min(spec.shape[1:]) >= 16
        perceptual = imagenet.Perceptual() if self.perceptual and sees and imagenet.available() else None
        before, after = ("x".join(map(str, shape)) for shape in (spec.shape, latent_shape))
        notes = [f"samples of {before} become latents of {after} (model.autoencoder.f={f})"]
        if self.perceptual and perceptual is None:
            why = (
                "for better ones run pip install 'ancestral[features]'"
                if sees
                else "the ImageNet network does not suit the data"
            )
            notes.append(f"reconstructions are compared by pixels and by the critic's features; {why}")
        return Autoencoder(
            self.coder(plan, channels, math.prod(space)),
            spec.shape,
            latent_shape,
            PatchCritic(spec.shape) if self.adversarial else None,
            perceptual,
            beta={2: 0.1, 4: 0.1, 8: 1.0}[f] if self.beta is None else self.beta,
            perceptual_weight=self.perceptual,
            share=4,
            objective=self.objective,
            weight=self.adversarial,
            heard=self.heard,
            notes=tuple(notes),
            **units(spec),
        )

    def coder(self, plan: Plan, channels: int, positions: int) -> LatentCodec:
        """Build the latents, with `channels` numbers at each position, and their networks."""
        if self.bottleneck == "vq":
            networks = (
                ConvEncoder(plan, channels, local=True),
                ConvDecoder(plan, channels, plan.shape[0], local=True),
            )
            return Quantised(*networks, positions, channels, self.codes)
        encoder = ConvEncoder(plan, 2 * channels, local=True)
        decoder = ConvDecoder(plan, channels, plan.shape[0], local=True)
        return Amortised(encoder, Diagonal(channels, positions), decoder)


class DiffusersRecipe(Section):
    """An AutoencoderKL of the library diffusers."""

    family: Literal["diffusers"] = "diffusers"
    config: dict[str, Any] = Field(description="the network, as in the library's config.json")

    def factor(self, spec: DataSpec) -> int:
        """Return the factor by which it shrinks each side."""
        return int(2 ** halvings(self.config))

    def build(self, spec: DataSpec) -> DiffusersAutoencoder:
        """Build the network with random weights. Raises UsageError for data that do not suit it."""
        if not spec.is_image or spec.range is None or spec.kind == "real":
            raise UsageError(f"diffusers' autoencoders need pictures with levels, and the samples of {spec.name} are not")
        return DiffusersAutoencoder(self.config, spec.shape, spec.range)
