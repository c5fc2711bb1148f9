"""Export of a model as a pipeline of the library diffusers: DDPMPipeline in pixels, LDMPipeline in latents.

A U-Net with classes has a row for each in its class embedding and, if it was trained without a class too, one more for that. In
pixels it is a ConsistencyModelPipeline, the only one that gives a UNet2DModel a class; its loop is that of every scheduler.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ancestral.conditioning import ClassCondition
from ancestral.errors import AncestralError, UsageError
from ancestral.files import write_atomically
from ancestral.models import GenerativeModel
from ancestral.models.diffusion import Diffusion
from ancestral.models.latent import LatentModel
from ancestral.models.pipelines import NOTE, TARGETS
from ancestral.networks.diffusers import UNET, DiffusersAutoencoder, DiffusersUNet, library
from ancestral.noise import SampleNoise
from ancestral.schedules import Chain
from ancestral.version import __version__

AGREES = 1e-4  # largest difference of a sample, in [-1, 1]
STEPS = 10  # of DDIM, with which samples are compared


def write_pipeline(model: GenerativeModel, folder: Path, run: str | None, weights: str) -> dict[str, Any]:
    """Write a pipeline folder and compare its samples with those of the model.

    Args:
        model: a diffusion model with the network unet-diffusers, or a latent model with such a prior and an AutoencoderKL.
        folder: an empty folder.
        run: the name of the run, for the note.
        weights: the checksum of its weights.

    Returns:
        The note of the export, which is also written.

    Raises:
        UsageError: if the model has another form than the pipelines.
        AncestralError: if diffusers is not installed, or the samples differ.
    """
    inner = model.prior if isinstance(model, LatentModel) else model
    network = _network(inner)
    assert isinstance(inner, Diffusion)
    unet, classes = _unet(inner, network)
    if isinstance(model, LatentModel):
        scheduler = library("DDIMScheduler")(**_scheduler(inner, network.chain, clip=False))
        pipeline = library("LDMPipeline")(_autoencoder(model), unet, scheduler)
    else:
        scheduler = library("DDPMScheduler")(**_scheduler(inner, network.chain, clip=True))
        pipeline = library("DDPMPipeline" if classes is None else "ConsistencyModelPipeline")(unet, scheduler)
    pipeline.save_pretrained(str(folder))
    largest = _difference(model, inner, network.chain, folder, classes)
    if not largest <= AGREES:
        raise AncestralError(f"the pipeline differs from the model: by up to {largest:.2g} in [-1, 1]; nothing was written")
    note = {
        "version": __version__,
        "format": "diffusers",
        "what": "pipeline",
        "precision": "fp32",
        "pipeline": type(pipeline).__name__,
        "run": run,
        "weights": weights,
        **({} if classes is None else {"classes": list(classes)}),
        "agreement": {"samples": 4, "largest": largest},
    }
    write_atomically(folder / NOTE, json.dumps(note, indent=1).encode())
    return note


def _network(model: GenerativeModel) -> DiffusersUNet:
    """Return the library's network of a model. Raises UsageError if the pipelines cannot use the model."""
    network = model.denoiser.network if isinstance(model, Diffusion) else None
    if not isinstance(network, DiffusersUNet):
        what = type(network).__name__ if network is not None else f"model of the family {model.family}"
        raise UsageError(
            f"a pipeline of diffusers needs a diffusion model with a network of diffusers, and this is a {what}: train one "
            "with model.net=unet-diffusers, for a latent model with model.prior.net=unet-diffusers"
        )
    assert isinstance(model, Diffusion)
    if others := [name for name in model.conditioner.kinds if name != "class"]:
        raise UsageError(
            "the pipelines of diffusers for this network take no other condition than a class, and this model has "
            f"{others[0]}: train a model without it"
        )
    if model.denoiser.target not in TARGETS.values() or model.denoiser.sigma_data != 1:
        raise UsageError(
            f"the schedulers of diffusers know the targets {', '.join(TARGETS.values())}, and the target of this model is "
            f"{model.denoiser.target}: train one with model.target=v"
        )
    if model.standardize.bounds is not None:
        low, high = (limit.flatten() for limit in model.standardize.limits() or ())
        if not (torch.allclose(low, torch.tensor(-1.0)) and torch.allclose(high, torch.tensor(1.0))):
            raise UsageError("pictures of pipelines are in [-1, 1], and this model has other units: give mean 0.5 and std 0.5")
    return network


def _unet(model: Diffusion, network: DiffusersUNet) -> tuple[Any, tuple[str, ...] | None]:
    """Return the library's network, whose class embedding holds the condition, and the names of its classes or None."""
    if network.context is None:
        return network.network, None
    kind = cast(ClassCondition, model.conditioner.kinds["class"])
    with torch.no_grad():
        table = network.context(kind.table.weight)
    if not model.conditioner.drop:  # the null was not trained
        table = table[:-1]
    plain = {key: value for key, value in network.network.config.items() if not key.startswith("_")}
    unet = library(UNET).from_config(plain | {"class_embed_type": None, "num_class_embeds": len(table)})
    unet.load_state_dict({**network.network.state_dict(), "class_embedding.weight": table})
    return unet.eval(), kind.names


def _scheduler(model: Diffusion, chain: Chain, clip: bool) -> dict[str, Any]:
    """Return the scheduler's configuration. Its steps are spread as the spacing `trailing`."""
    first, last, T = chain.betas[0].item(), chain.betas[-1].item(), chain.T
    straight = torch.allclose(chain.betas, torch.linspace(first, last, T, dtype=torch.float64), rtol=1e-9, atol=0)
    betas = {"beta_start": first, "beta_end": last} if straight else {"trained_betas": chain.betas.tolist()}
    names = {target: name for name, target in TARGETS.items()}
    return {
        **betas,
        "num_train_timesteps": T,
        "prediction_type": names[model.denoiser.target],
        "clip_sample": clip,
        "timestep_spacing": "trailing",
    }


def _autoencoder(model: LatentModel) -> Any:
    """Return the library's autoencoder whose latents are normalised, since its 1x1 convolutions can hold mu and s.

    The encoder's mean becomes (mean - mu) / s and its log variance less 2 log s, and the decoder takes s z + mu.
    """
    first = model.autoencoder
    if not isinstance(first, DiffusersAutoencoder):
        raise UsageError(
            f"a pipeline of diffusers needs an AutoencoderKL, and the autoencoder of this model is a {type(first).__name__}: "
            "train a latent model with a folder of diffusers as its autoencoder"
        )
    config = {key: value for key, value in first.network.config.items() if not key.startswith("_")}
    h, w = model.shape[1:]
    if h != w or not config.get("use_quant_conv", True) or not config.get("use_post_quant_conv", True):
        raise UsageError("LDMPipeline takes square pictures and an AutoencoderKL with quant_conv and post_quant_conv")
    network = library().from_config(config | {"scaling_factor": 1.0, "shift_factor": None, "sample_size": h})
    network.load_state_dict(first.network.state_dict())
    mu, s = model.mean.flatten(), model.std.flatten()
    with torch.no_grad():
        before, after = network.post_quant_conv, network.quant_conv
        before.bias.add_(before.weight[:, :, 0, 0] @ mu)
        before.weight.mul_(s[None, :, None, None])
        scale = torch.cat([1 / s, torch.ones_like(s)])
        after.weight.mul_(scale[:, None, None, None])
        after.bias.copy_(torch.cat([(after.bias[: len(s)] - mu) / s, after.bias[len(s) :] - 2 * s.log()]))
    return network.eval()


def _difference(model: GenerativeModel, inner: Diffusion, chain: Chain, folder: Path, classes: Sequence[str] | None) -> float:
    """Return the largest difference of samples from the same noise, in [-1, 1], by the written pipeline and by the model."""
    denoiser = Diffusion(
        inner.denoiser,
        inner.shape,
        schedule=chain,
        target=inner.denoiser.target,
        conditioner=inner.conditioner,
        **inner.standardize.units,
    )
    ours: GenerativeModel = denoiser.eval()
    if isinstance(model, LatentModel):
        ours = LatentModel(model.autoencoder, denoiser, shape=model.shape, **model.standardize.units).eval()
        ours.load_state_dict(model.state_dict())
    seeds = range(4)
    labels = None if classes is None else torch.arange(4) % len(classes)
    guidance = inner.usual_guidance(() if labels is None else ("class",))
    condition = None if labels is None else {"class": labels}
    x = ours.sample(4, condition, seeds=seeds, solver="ddim", steps=STEPS, spacing="trailing", guidance=guidance)
    low, high = model.standardize.bounds or (0.0, 1.0)
    theirs = drawn(folder, SampleNoise(seeds).normal(inner.shape), STEPS, labels, guidance)
    return float((2 * (x - low) / (high - low) - 1 - theirs).abs().max())


@torch.no_grad()
def drawn(folder: Path, z: Tensor, steps: int, labels: Tensor | None = None, guidance: float = 1.0) -> Tensor:
    """Return the pictures of a pipeline in a folder from noise z, in [-1, 1], by the library's DDIM.

    Args:
        folder: the folder of the pipeline.
        z: the noise `(n, *shape)`.
        steps: the number of steps.
        labels: the class of each sample; None: the network has no classes.
        guidance: the scale of guidance away from the last row of the class embedding.
    """
    how: dict[str, Any] = {"local_files_only": True, "low_cpu_mem_usage": False}
    unet = library(UNET).from_pretrained(folder / "unet", **how).eval()
    scheduler = library("DDIMScheduler").from_pretrained(folder / "scheduler", local_files_only=True)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        out = unet(z, t, class_labels=labels).sample
        if labels is not None and guidance != 1:
            null = unet(z, t, class_labels=torch.full_like(labels, unet.config.num_class_embeds - 1)).sample
            out = null + guidance * (out - null)
        z = scheduler.step(out, t, z, use_clipped_model_output=True).prev_sample
    if (folder / "vqvae").is_dir():
        autoencoder = library().from_pretrained(folder / "vqvae", **how).eval()
        z = autoencoder.decode(z / autoencoder.config.scaling_factor).sample
    return z.clamp(-1, 1)
