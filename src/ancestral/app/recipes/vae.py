"""The VAE family in a recipe."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.base import FamilyRecipe, units
from ancestral.app.recipes.choices import AutoencoderName
from ancestral.builtin import built_in
from ancestral.conditioning import ContextShape
from ancestral.distributions import Likelihood, LikelihoodName, likelihood
from ancestral.errors import UsageError
from ancestral.models.codec import POSTERIORS, Amortised, LatentCodec, PosteriorName
from ancestral.models.hierarchical import Hierarchical
from ancestral.models.quantised import Quantised
from ancestral.models.vae import VAE
from ancestral.networks.autoencoder import Plan
from ancestral.registry import lookup

WORDS: dict[str, str] = {
    "gaussian": "Gaussian with optimal variance",
    "gaussian-learned": "Gaussian with learned variance",
    "gaussian-fixed": "Gaussian with fixed variance",
    "bernoulli": "Bernoulli",
    "continuous-bernoulli": "continuous Bernoulli",
    "logistic": "mixture of discretised logistics",
}

SMALL, MANY = 1024, 10_000  # an MLP is better for at most so many numbers in a picture and at least so many pictures (measured)
SPATIAL = {"layout", "map", "image", "upscale", "sketch", "inpaint"}  # conditions that depend on the position
EPOCHS = 60  # limit for fewer samples than MANY: after more epochs held-out likelihoods fall (measured)


@built_in("family", "vae")
class VAERecipe(FamilyRecipe):
    """A variational autoencoder."""

    training: ClassVar[dict[str, Any]] = {"lr": 1e-3}
    dense_training: ClassVar[dict[str, Any]] = {"lr": 2e-3, "batch": 256}  # for images with an MLP

    family: Literal["vae"] = "vae"
    likelihood: Literal["auto", LikelihoodName] = Field("auto", description="p(x | z); auto: one that suits the data")
    variance: float = Field(
        1.0, gt=0, description="variance of the Gaussian relative to that of the data; fixed, or the initial value"
    )
    latent: int | None = Field(None, ge=1, description="latent dimensions; at each position for a hierarchy or codebook")
    posterior: PosteriorName = Field("diagonal", description="q(z | x)")
    hierarchy: int | None = Field(None, ge=2, description="groups of latents, from coarse to fine")
    bottleneck: Literal["gaussian", "vq"] = Field("gaussian", description="continuous latents or a codebook")
    codes: int = Field(256, ge=2, description="rows of the codebook")
    commitment: float = Field(0.25, gt=0, description="weight of the commitment loss of the codebook")
    beta: float = Field(1.0, ge=0, description="weight of the KL term")
    kl_warmup: int = Field(0, ge=0, description="samples over which the weight of the KL term rises from 0")
    free_bits: float = Field(0.0, ge=0, description="nats per latent dimension without cost")
    net: AutoencoderName = Field("auto", description="the networks; auto: those that suit the data")
    width: int | None = Field(None, ge=1, description="features of the networks' finest level or of the MLP's layers")
    blocks: int | None = Field(None, ge=1, description="residual blocks per level")
    patch: int | None = Field(None, ge=1, description="size of the stem's patches")
    parts: int = Field(16, ge=1, description="largest number of Gaussians in the aggregate prior")

    def suitable(self, spec: DataSpec) -> dict[str, Any]:
        suits = self.dense_training if self.dense(spec) and len(spec.shape) > 1 else self.training
        return suits | ({"epochs": EPOCHS} if spec.size < MANY else {})

    def dense(self, spec: DataSpec) -> bool:
        """Return whether the networks are MLPs.

        They are for vectors, and for many small pictures without spatial conditions: in the same time an MLP sees several times
        as many samples, and with so many it needs no convolutions.
        """
        if self.net != "auto" or self.hierarchy:
            return self.net == "mlp"
        if len(spec.shape) < 3 or self.bottleneck == "vq":
            return len(spec.shape) == 1
        return spec.dims <= SMALL and spec.size >= MANY and not SPATIAL & set(self.condition)

    def accepts(self, spec: DataSpec) -> tuple[str, ...]:
        return ("vector", "channels") if len(spec.shape) == 3 and not self.dense(spec) else ("vector",)

    def build(self, spec: DataSpec) -> VAE:
        head, notes = self.head(spec)
        conditioner = self.conditioner(spec)
        coder = self.coder(spec, head.outputs, conditioner.widths)
        return VAE(
            coder,
            shape=spec.shape,
            likelihood=head,
            beta=self.beta,
            warmup=self.kl_warmup,
            free_bits=self.free_bits,
            parts=self.parts,
            notes=notes,
            conditioner=conditioner,
            **units(spec),
        )

    def head(self, spec: DataSpec) -> tuple[Likelihood, tuple[str, ...]]:
        """Build the likelihood, and return notes about it. Raises UsageError if it does not suit the data."""
        grey = spec.kind != "binary"
        name: LikelihoodName = self.likelihood if self.likelihood != "auto" else "gaussian" if grey else "bernoulli"
        if name == "logistic" and spec.levels is None:
            raise UsageError(f"{spec.name} has no levels to count: set model.likelihood=gaussian")
        if name.endswith("bernoulli") and spec.kind == "real":
            raise UsageError(f"{spec.name} is not within 0 and 1: set model.likelihood=gaussian")
        notes = [f"likelihood of {spec.kind} data: {WORDS[name]} (model.likelihood={name})"]
        if name == "bernoulli" and grey:
            notes.append(
                f"{spec.name} has grey values, and a Bernoulli has only 0 and 1: its ELBO is then not a likelihood; for one, "
                "set model.likelihood=continuous-bernoulli or logistic"
            )
        made = likelihood(name, spec.mean, spec.std, len(spec.shape) - 1, spec.levels, self.variance)
        return made, tuple(notes)

    def coder(self, spec: DataSpec, repeat: int, context: ContextShape) -> LatentCodec:
        """Build the latents and their networks. repeat: numbers that the decoder returns for each value of a sample."""
        shape, vector = spec.shape, len(spec.shape) == 1
        sizes = {"width": self.width, "blocks": self.blocks, "patch": self.patch}
        if (self.hierarchy or self.bottleneck == "vq") and self.posterior != "diagonal":
            raise UsageError("a posterior other than diagonal needs one group of continuous latents: leave one of them out")
        if self.hierarchy:
            if self.bottleneck == "vq" or self.net not in ("auto", "conv"):
                raise UsageError(
                    "a hierarchy has convolutions and continuous latents: leave model.bottleneck and model.net out"
                )
            if vector:
                sizes["width"] = self.width or 128
            plan = Plan.of((*shape, 1) if vector else shape, **sizes, context=context)
            channels = self.latent or (2 if vector else 4)
            return Hierarchical(plan, shape[0] * repeat, self.hierarchy, channels, vectors=vector)
        build = lookup("autoencoder", self.net if self.net != "auto" else "mlp" if self.dense(spec) else "conv")
        if self.bottleneck == "vq":
            code = self.latent or (2 if vector else 8)
            networks = build(shape, code, code, repeat, local=True, **sizes, context=context)
            return Quantised(networks.encoder, networks.decoder, networks.positions, code, self.codes, self.commitment)
        latent = self.latent or default_latent(spec.dims)
        posterior = POSTERIORS[self.posterior](latent)
        networks = build(shape, posterior.outputs, latent, repeat, **sizes, context=context)
        return Amortised(networks.encoder, posterior, networks.decoder)


def default_latent(dims: int) -> int:
    """Return about twice the square root of the numbers in a sample: 16 for digits, 64 for 28x28, at most 256."""
    return min(dims, 256, 1 << math.ceil(math.log2(2 * math.sqrt(dims))))
