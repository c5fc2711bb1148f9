"""Latent diffusion in a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Discriminator, Field, Tag
from torch import Tensor

from ancestral.batch import Batch
from ancestral.data import DataSet
from ancestral.data.spec import DataSpec
from ancestral.errors import UsageError
from ancestral.families import GenerativeModel
from ancestral.families.autoencoder import ALONE, Autoencoder
from ancestral.families.codes import Amortised, Coder, Local
from ancestral.families.latent import STAGES, LatentModel
from ancestral.families.objectives import Name
from ancestral.families.quantised import Quantised
from ancestral.nets import imagenet
from ancestral.nets.autoencoder import ConvDecoder, ConvEncoder, Plan
from ancestral.nets.patch import PatchCritic
from ancestral.training.catalogue.base import FamilyRecipe, Section, scaling
from ancestral.training.catalogue.diffusion import DiffusionRecipe
from ancestral.training.catalogue.gan import GANRecipe
from ancestral.training.catalogue.score import ScoreRecipe
from ancestral.training.catalogue.vae import VAERecipe
from ancestral.training.latents import Latents, encoded, latent_spec
from ancestral.training.stage import Stage

DEFAULT_PRIOR = "diffusion"


class AutoencoderRecipe(Section):
    """The first stage."""

    source: str | None = Field(None, description="a latent run whose trained autoencoder is taken over, in place of this stage")
    share: float = Field(0.4, gt=0, lt=1, description="of the budget, in which the autoencoder is trained")
    bottleneck: Literal["kl", "vq"] = Field("kl", description="continuous latents held near N(0, I), or a codebook")
    channels: int | None = Field(None, ge=1, description="numbers of a latent at each position; None: what suits f")
    codes: int = Field(512, ge=2, description="rows of the codebook")
    beta: float = Field(0.1, ge=0, description="weight of the KL term; below 1 pictures come back sharper")
    width: int | None = Field(None, ge=1, description="features of the networks' finest level")
    blocks: int | None = Field(None, ge=1, description="residual blocks a level")
    patch: int | None = Field(None, ge=1, description="size of the stem's patches")
    perceptual: float = Field(0.02, ge=0, description="weight of the perceptual distance, where its network is installed")
    adversarial: float = Field(0.2, ge=0, description="pull of the critic of patches, as a share of the rest's; 0: no critic")
    objective: Name = Field("hinge", description="what critic and autoencoder minimise in their game")
    heard: float = Field(0.6, gt=ALONE, le=1, description="share of the stage after which the critic is heard")
    lr: float = Field(2e-3, gt=0, description="peak learning rate")
    batch: int = Field(32, ge=1, description="samples a step")


def _family(value: Any) -> str:
    return str(value.get("family", DEFAULT_PRIOR)) if isinstance(value, Mapping) else str(getattr(value, "family", ""))


Prior = Annotated[
    Annotated[DiffusionRecipe, Tag("diffusion")]
    | Annotated[ScoreRecipe, Tag("score")]
    | Annotated[VAERecipe, Tag("vae")]
    | Annotated[GANRecipe, Tag("gan")],
    Discriminator(_family),
]


class LatentRecipe(FamilyRecipe):
    """An autoencoder, and a model of its latents."""

    family: Literal["latent"] = "latent"
    f: Literal[2, 4, 8] | None = Field(
        None, description="by which the autoencoder shrinks each side; None: what suits the size"
    )
    autoencoder: AutoencoderRecipe = Field(AutoencoderRecipe(), description="the first stage")
    prior: Prior = Field(DiffusionRecipe(), description="the model of the latents, with the settings of its family")

    def suitable(self, spec: DataSpec) -> dict[str, Any]:
        """What suits the prior on latents."""
        if len(spec.shape) == 1:
            return {}
        f = self.f or factor(spec)
        return self.prior.suitable(latent_spec(spec, (1, *(math.ceil(side / f) for side in spec.shape[1:]))))

    def build(self, spec: DataSpec) -> LatentModel:
        if len(spec.shape) == 1:
            raise UsageError(f"the samples of {spec.name} are vectors, which have no sides to shrink: choose another --model")
        if self.prior.condition:
            raise UsageError("conditions of a latent model are set for the whole: model.condition, not model.prior.condition")
        autoencoder = self.first(spec)
        inner = self.prior.model_copy(update={"condition": self.condition, "drop": self.drop, "factor": self.factor})
        prior = inner.build(latent_spec(spec, autoencoder.latent_shape))
        return LatentModel(spec.shape, scaling(spec), autoencoder, prior)

    def first(self, spec: DataSpec) -> Autoencoder:
        """The untrained autoencoder."""
        a, f = self.autoencoder, self.f or factor(spec)
        patch = a.patch or f // 2
        if f % patch:
            raise UsageError(
                f"patches of {patch} pixels do not divide model.f={f}: set model.autoencoder.patch to 1, 2 or {f // 2}"
            )
        levels, width = 1 + int(math.log2(f // patch)), a.width or 64
        plan = Plan(spec.shape, tuple(width * min(2**i, 2) for i in range(levels)), a.blocks or 1, patch)
        channels = a.channels or {2: 4, 4: 8, 8: 16}[f]
        space = plan.map_at(levels - 1)
        positions = math.prod(space)
        coder: Coder
        if a.bottleneck == "vq":
            decoder = ConvDecoder(plan, channels, spec.shape[0], local=True)
            coder = Quantised(ConvEncoder(plan, channels, local=True), decoder, positions, channels, a.codes)
        else:
            posterior = Local(positions, channels)
            coder = Amortised(
                ConvEncoder(plan, 2 * channels, local=True),
                posterior,
                ConvDecoder(plan, channels, spec.shape[0], local=True),
            )
        sees = spec.is_image and spec.shape[0] in (1, 3) and spec.kind != "real" and min(spec.shape[1:]) >= 16
        perceptual = imagenet.Perceptual() if a.perceptual and sees and imagenet.available() else None
        latent_shape = (channels, *space) if spec.is_image else (channels, space[1])
        shape = "x".join(map(str, latent_shape))
        words = [f"samples of {'x'.join(map(str, spec.shape))} become latents of {shape} (model.f={f})"]
        if a.perceptual and perceptual is None:
            why = "pip install 'ancestral[features]' for better" if sees else "such data are not for the ImageNet network"
            words.append(f"reconstructions are compared by pixels and by the critic's features: {why}")
        return Autoencoder(
            spec.shape,
            scaling(spec),
            coder,
            latent_shape,
            PatchCritic(spec.shape) if a.adversarial else None,
            perceptual,
            beta=a.beta,
            perceptual_weight=a.perceptual,
            share=4,
            objective=a.objective,
            weight=a.adversarial,
            heard=a.heard,
            notes=tuple(words),
        )

    def stages(self, model: GenerativeModel, data: DataSet, *, flip: bool) -> tuple[Stage, ...]:
        whole, a = cast(LatentModel, model), self.autoencoder
        first = cast(Autoencoder, whole.autoencoder)

        def pictures(batch: Batch) -> Tensor:
            """Each sample beside what comes back of it."""
            return torch.stack([batch.x, first.reconstruct(batch.x)], 1).flatten(0, 1)

        def latents() -> Latents:
            if a.source and not whole.known:  # in a continued run the checkpoint has brought it
                _take_over(first, a.source)
            return encoded(whole, data, flip=flip)

        if a.source:
            return (Stage(whole.prior, latents, 1.0, STAGES[1]),)
        settings = {"lr": a.lr, "batch": a.batch, "warmup": 30, "clip": 5.0}
        return (
            Stage(first, lambda: data, a.share, STAGES[0], settings, pictures),
            Stage(whole.prior, latents, 1 - a.share, STAGES[1]),
        )


def _take_over(autoencoder: Autoencoder, source: str) -> None:
    """The weights of another run's autoencoder. Raises UsageError where that is another network."""
    from ancestral.training.run import Run

    other = Run.existing(source).load_model("cpu")
    if not isinstance(other, LatentModel):
        raise UsageError(f"{source} is no run of a latent model: name one that was trained with --model latent")
    try:
        autoencoder.load_state_dict(other.autoencoder.state_dict())
    except RuntimeError:
        raise UsageError(
            f"the autoencoder of {source} is for other samples or of other settings: prepare the data at its size"
        ) from None


def factor(spec: DataSpec) -> Literal[2, 4, 8]:
    """The largest that leaves 7 positions a side, at least 2: 4 for 28 and 32 pixels, 8 for 64; of signals 4."""
    side = max(spec.shape[1:])
    return 8 if side >= 56 else 4 if side >= 24 else 2
