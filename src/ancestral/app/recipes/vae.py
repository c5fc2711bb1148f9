"""The VAE family in a recipe."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from ancestral.app.data.spec import DataSpec
from ancestral.app.recipes.base import FamilyRecipe, units
from ancestral.builtin import built_in
from ancestral.conditioning import ContextShape
from ancestral.distributions import Likelihood, LikelihoodName, likelihood
from ancestral.errors import UsageError
from ancestral.models.codec import POSTERIORS, Amortised, LatentCodec, PosteriorName
from ancestral.models.hierarchical import Hierarchical
from ancestral.models.quantised import Quantised
from ancestral.models.vae import VAE
from ancestral.networks.autoencoder import ConvDecoder, ConvEncoder, DenseDecoder, DenseEncoder, Plan

WORDS: dict[str, str] = {
    "gaussian": "Gaussian, its variance the one that fits best",
    "gaussian-learned": "Gaussian, its variance learned",
    "gaussian-fixed": "Gaussian of fixed variance",
    "bernoulli": "Bernoulli",
    "continuous-bernoulli": "continuous Bernoulli",
    "logistic": "mixture of discretised logistics",
}

SMALL, MANY = 1024, 10_000  # numbers in a picture, pictures: where an MLP is the better default, by measurement
SPATIAL = {"layout", "map", "image", "upscale", "sketch", "inpaint"}  # conditions that say something of each place
EPOCHS = 60  # through fewer samples than MANY: with more, held-out ones score ever worse, by measurement


@built_in("family", "vae")
class VAERecipe(FamilyRecipe):
    """A variational autoencoder."""

    training: ClassVar[dict[str, Any]] = {"lr": 1e-3}
    dense_training: ClassVar[dict[str, Any]] = {"lr": 2e-3, "batch": 256}  # of images by an MLP

    family: Literal["vae"] = "vae"
    likelihood: Literal["auto", LikelihoodName] = Field("auto", description="p(x | z); auto: what suits the data")
    variance: float = Field(1.0, gt=0, description="of the Gaussian, in units of the data's; where fixed, or to begin with")
    latent: int | None = Field(None, ge=1, description="latent dimensions; of a hierarchy or codebook, at each position")
    posterior: PosteriorName = Field("diagonal", description="q(z | x)")
    hierarchy: int | None = Field(None, ge=2, description="groups of latents, from coarse to fine")
    bottleneck: Literal["gaussian", "vq"] = Field("gaussian", description="continuous latents or a codebook")
    codes: int = Field(256, ge=2, description="rows of the codebook")
    commitment: float = Field(0.25, gt=0, description="weight that holds the encoder to its codes")
    beta: float = Field(1.0, ge=0, description="weight of the KL term")
    kl_warmup: int = Field(0, ge=0, description="samples over which that weight rises from 0")
    free_bits: float = Field(0.0, ge=0, description="nats of each latent dimension that cost nothing")
    net: Literal["auto", "conv", "mlp"] = Field("auto", description="conv, or mlp; auto: by the data")
    width: int | None = Field(None, ge=1, description="features of the networks' finest level or of the MLP's layers")
    blocks: int | None = Field(None, ge=1, description="residual blocks a level")
    patch: int | None = Field(None, ge=1, description="size of the stem's patches")
    parts: int = Field(16, ge=1, description="Gaussians in the second-stage prior, at most")

    def suitable(self, spec: DataSpec) -> dict[str, Any]:
        suits = self.dense_training if self.dense(spec) and len(spec.shape) > 1 else self.training
        return suits | ({"epochs": EPOCHS} if spec.size < MANY else {})

    def dense(self, spec: DataSpec) -> bool:
        """Whether the networks are MLPs: of vectors, and where pictures are small and so many that nothing need be known of
        them beforehand, nor is told of their places; for the same time an MLP then sees several times as many.
        """
        if self.net != "auto" or self.hierarchy:
            return self.net == "mlp"
        if len(spec.shape) < 3 or self.bottleneck == "vq":
            return len(spec.shape) == 1
        return spec.dims <= SMALL and spec.size >= MANY and not SPATIAL & set(self.condition)

    def takes(self, spec: DataSpec) -> tuple[str, ...]:
        return ("vector", "channels") if len(spec.shape) == 3 and not self.dense(spec) else ("vector",)

    def build(self, spec: DataSpec) -> VAE:
        head, notes = self.head(spec)
        conditioner = self.conditioner(spec)
        coder = self.coder(spec, spec.shape[0] * head.outputs, head.outputs, conditioner.widths)
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
        """The likelihood, and what to say of it. Raises UsageError where it has no meaning for the data."""
        grey = spec.kind != "binary"
        name: LikelihoodName = self.likelihood if self.likelihood != "auto" else "gaussian" if grey else "bernoulli"
        if name == "logistic" and spec.levels is None:
            raise UsageError(f"{spec.name} has no levels to count: set model.likelihood=gaussian")
        if name.endswith("bernoulli") and spec.kind == "real":
            raise UsageError(f"{spec.name} is not within 0 and 1: set model.likelihood=gaussian")
        notes = [f"likelihood of {spec.kind} data: {WORDS[name]} (model.likelihood={name})"]
        if name == "bernoulli" and grey:
            notes.append(
                f"{spec.name} is grey, and a Bernoulli knows 0 and 1 alone: its ELBO is then no likelihood; "
                "model.likelihood=continuous-bernoulli or logistic has one"
            )
        made = likelihood(name, spec.mean, spec.std, len(spec.shape) - 1, spec.levels, self.variance)
        return made, tuple(notes)

    def coder(self, spec: DataSpec, outputs: int, repeat: int, context: ContextShape) -> LatentCodec:
        """The latents and their networks. outputs: of the decoder, repeat for each channel of the data."""
        shape = spec.shape
        dense = self.dense(spec)
        if len(shape) == 1 and self.net == "conv":
            raise UsageError("vectors have no neighbours to convolve: leave model.net out")
        if (self.hierarchy or self.bottleneck == "vq") and self.posterior != "diagonal":
            raise UsageError("a posterior other than diagonal needs one group of continuous latents: leave one of them out")
        if self.hierarchy:
            if self.bottleneck == "vq" or self.net == "mlp":
                raise UsageError("a hierarchy has convolutions and continuous latents: leave model.bottleneck and net out")
            seen = (*shape, 1) if len(shape) == 1 else shape
            width = self.width or (128 if len(shape) == 1 else None)
            plan = Plan.of(seen, width=width, blocks=self.blocks, patch=self.patch, context=context)
            channels = self.latent or (2 if len(shape) == 1 else 4)
            return Hierarchical(plan, outputs, self.hierarchy, channels, vectors=len(shape) == 1)
        width, blocks = self.width or max(128, min(384, 4 * spec.dims)), self.blocks or (2 if len(shape) == 1 else 1)
        if not dense:
            plan = Plan.of(shape, width=self.width, blocks=self.blocks, patch=self.patch, context=context)
        if self.bottleneck == "vq":
            code = self.latent or (2 if len(shape) == 1 else 8)
            if dense:
                positions = max(2, min(16, spec.dims // 4))
                size = positions * code
                encoder, decoder = (
                    DenseEncoder(shape, size, width, blocks, context),
                    DenseDecoder(shape, size, repeat, width, blocks, context),
                )
                return Quantised(encoder, decoder, positions, code, self.codes, self.commitment)
            positions = math.prod(plan.map_at(len(plan.channels) - 1))
            convolved = ConvEncoder(plan, code, local=True), ConvDecoder(plan, code, outputs, local=True)
            return Quantised(*convolved, positions, code, self.codes, self.commitment)
        latent = self.latent or default_latent(spec.dims)
        posterior = POSTERIORS[self.posterior](latent)
        if dense:
            return Amortised(
                DenseEncoder(shape, posterior.outputs, width, blocks, context),
                posterior,
                DenseDecoder(shape, latent, repeat, width, blocks, context),
            )
        return Amortised(ConvEncoder(plan, posterior.outputs), posterior, ConvDecoder(plan, latent, outputs))


def default_latent(dims: int) -> int:
    """About twice the square root of the numbers in a sample: 16 for digits, 64 for 28x28, 256 at most."""
    return min(dims, 256, 1 << math.ceil(math.log2(2 * math.sqrt(dims))))
