"""Names and meanings of the built-in parts, for help texts and tables, without an import of torch.

The module that defines a part registers it with `built_in`, which uses the meaning from here, so that each is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from ancestral.registry import entry, lookup, names, register

T = TypeVar("T")

MEANINGS: dict[str, dict[str, str]] = {
    "family": {
        "diffusion": "denoising diffusion, in discrete or continuous time",
        "score": "score matching at every noise level",
        "vae": "variational autoencoder",
        "gan": "generative adversarial network",
        "latent": "diffusion in the latent space of an autoencoder",
    },
    "schedule": {
        "cosine": "alpha = cos(pi t / 2), sigma = sin(pi t / 2)",
        "linear": "the straight line of flow matching, alpha = 1 - t, sigma = t",
        "vp": "variance preserving, with a linear beta(t)",
        "sub-vp": "the alpha of vp with less noise, sigma = 1 - alpha^2",
        "ve": "variance exploding, alpha = 1 and a geometric sigma",
        "geometric": "variance exploding at a geometric sequence of levels, as in NCSN",
        "ddpm": "the chain of DDPM with 1,000 steps and a linear beta",
        "ddpm-cosine": "the chain of DDPM with 1,000 steps and the cosine rule",
    },
    "solver": {
        "ddpm": "ancestral sampling of DDPM, stochastic",
        "ddim": "DDIM, deterministic, first order",
        "euler": "Euler steps of the probability-flow ODE, first order",
        "heun": "Heun steps of the ODE, second order, two evaluations a step",
        "dpmpp": "DPM-Solver++, second order, multistep",
        "dpmpp-1": "DPM-Solver++, first order",
        "dpmpp-3": "DPM-Solver++, third order, multistep",
        "dpmpp-sde": "DPM-Solver++ of the SDE, second order, stochastic",
        "unipc": "UniPC, a predictor of order 2 and a corrector, third order",
        "unipc-3": "UniPC, a predictor of order 3 and a corrector, third order or better",
        "rk4": "the Runge-Kutta method of order 4, four evaluations a step",
        "adaptive": "Dormand-Prince with an adaptive step size",
        "langevin": "annealed Langevin dynamics",
        "langevin-v1": "annealed Langevin dynamics with 100 small steps a level",
        "langevin-one": "Langevin dynamics at one noise level",
        "pc": "predictor and corrector of the reverse SDE",
        "euler-maruyama": "Euler-Maruyama steps of the reverse SDE",
        "churn": "the stochastic Heun sampler of EDM",
    },
    "spacing": {
        "trailing": "even steps of t from 1 to 0",
        "linear": "even steps of t from 1 to the first noisy time, then 0",
        "logsnr": "even steps of log SNR, then 0",
        "karras": "even steps of (sigma/alpha)^(1/7), then 0",
    },
    "network": {
        "auto": "an MLP for vectors, a U-Net for signals and images",
        "unet": "a convolutional U-Net",
        "dit": "a transformer of patches",
        "mlp": "a residual MLP for vectors",
        "unet-diffusers": "a UNet2DModel of the library diffusers, for its pipelines; for texts a UNet2DConditionModel",
    },
    "autoencoder": {
        "auto": "an MLP for vectors and for many small images, else convolutions",
        "conv": "residual convolutions, for signals and images",
        "mlp": "a residual MLP",
    },
    "condition": {
        "class": "the class of a sample",
        "text": "a caption",
        "layout": "boxes of classes or texts",
        "map": "a class for every pixel",
        "image": "an image that is given with each sample",
        "upscale": "the sample at a smaller size",
        "inpaint": "the sample with a part hidden",
        "sketch": "the edges of the sample",
        "number": "numbers that are given with each sample, such as an angle or a size",
    },
    "extractor": {
        "classifier": "a classifier that is trained on the data's own classes",
        "efficientnet": "a network with ImageNet weights",
        "inception": "the network of the standard FID",
        "random": "a convolutional network with random weights, a rough guide only",
        "coordinates": "the numbers of a vector themselves, each scaled to deviation 1",
    },
    "tracker": {
        "tensorboard": "event files in the run folder",
        "wandb": "Weights & Biases",
        "trackio": "trackio, on this machine",
        "mlflow": "an MLflow server, or a database in the run folder",
    },
    "baseline": {
        "gaussian": "a normal distribution with the mean and covariance of the training data",
        "mixture": "a mixture of Gaussians",
        "kernel": "a training sample plus Gaussian noise",
        "copy": "a training sample as it is",
    },
}


def built_in(kind: str, name: str, **facts: Any) -> Callable[[T], T]:
    """Return a decorator that registers a built-in part with its meaning from `MEANINGS`."""
    return register(kind, name, MEANINGS[kind][name], **facts)


def meanings(kind: str) -> dict[str, str]:
    """Return names and meanings of a kind: first the built-in parts, then other registered parts. This needs no torch."""
    found = dict(MEANINGS.get(kind, {}))
    for name in names(kind):
        found.setdefault(name, entry(kind, name).meaning)
    return found


def listed(kind: str) -> str:
    """Return the names of a kind in one phrase, for help texts."""
    return ", ".join(meanings(kind))


def explained(kind: str) -> str:
    """Return the names of a kind with their meanings in one phrase, for help texts."""
    return "; ".join(f"{name} ({meaning})" for name, meaning in meanings(kind).items())


class Registered(Mapping[str, Any]):
    """The registered parts of one kind as a read-only mapping. It also has parts that are registered later."""

    def __init__(self, kind: str):
        self.kind = kind

    def __getitem__(self, name: str) -> Any:
        if name not in names(self.kind):
            raise KeyError(name)
        return lookup(self.kind, name)

    def __iter__(self) -> Iterator[str]:
        known = names(self.kind)
        return (name for name in meanings(self.kind) if name in known)

    def __len__(self) -> int:
        return len(names(self.kind))
