"""Train, sample, score and compare the five classical families of deep generative models on your own data.

import ancestral as an
model = an.train("digits", budget="2m")
x = model.sample(16, seeds=range(16))

or with networks and a loop of your own:

model = an.Diffusion(network, shape=(1, 28, 28), mean=0.13, std=0.31, bounds=(0, 1))
x = model.sample(16, solver=an.solvers.Heun(), steps=20)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ancestral.version import __version__ as __version__

if TYPE_CHECKING:
    from ancestral import conditioning as conditioning
    from ancestral import distributions as distributions
    from ancestral import guidance as guidance
    from ancestral import likelihood as likelihood
    from ancestral import metrics as metrics
    from ancestral import models as models
    from ancestral import networks as networks
    from ancestral import noise as noise
    from ancestral import oracles as oracles
    from ancestral import schedules as schedules
    from ancestral import solvers as solvers
    from ancestral.app.api import load, train
    from ancestral.app.compare import compare
    from ancestral.app.data import DataError, DataSet, DataSpec
    from ancestral.app.data import load as load_data
    from ancestral.app.distill import distill
    from ancestral.app.evaluate import evaluate, report
    from ancestral.app.export import export
    from ancestral.app.hub import push
    from ancestral.app.pictures import picture
    from ancestral.app.sampling import SampleRequest
    from ancestral.app.tune import tune
    from ancestral.configuration import configurable
    from ancestral.denoiser import Denoiser
    from ancestral.errors import AncestralError, UsageError
    from ancestral.models import GenerativeModel
    from ancestral.models.diffusion import Diffusion
    from ancestral.models.distilled import DistilledModel
    from ancestral.models.gan import GAN
    from ancestral.models.latent import LatentModel
    from ancestral.models.score import ScoreModel
    from ancestral.models.vae import VAE
    from ancestral.registry import register

_HOMES = {
    "train": ("ancestral.app.api", "train"),
    "load": ("ancestral.app.api", "load"),
    "evaluate": ("ancestral.app.evaluate", "evaluate"),
    "tune": ("ancestral.app.tune", "tune"),
    "compare": ("ancestral.app.compare", "compare"),
    "distill": ("ancestral.app.distill", "distill"),
    "push": ("ancestral.app.hub", "push"),
    "report": ("ancestral.app.evaluate", "report"),
    "export": ("ancestral.app.export", "export"),
    "picture": ("ancestral.app.pictures", "picture"),
    "load_data": ("ancestral.app.data", "load"),
    "DataError": ("ancestral.app.data", "DataError"),
    "DataSet": ("ancestral.app.data", "DataSet"),
    "DataSpec": ("ancestral.app.data", "DataSpec"),
    "AncestralError": ("ancestral.errors", "AncestralError"),
    "UsageError": ("ancestral.errors", "UsageError"),
    "GenerativeModel": ("ancestral.models", "GenerativeModel"),
    "Diffusion": ("ancestral.models.diffusion", "Diffusion"),
    "DistilledModel": ("ancestral.models.distilled", "DistilledModel"),
    "ScoreModel": ("ancestral.models.score", "ScoreModel"),
    "VAE": ("ancestral.models.vae", "VAE"),
    "GAN": ("ancestral.models.gan", "GAN"),
    "LatentModel": ("ancestral.models.latent", "LatentModel"),
    "Denoiser": ("ancestral.denoiser", "Denoiser"),
    "configurable": ("ancestral.configuration", "configurable"),
    "SampleRequest": ("ancestral.app.sampling", "SampleRequest"),
    "register": ("ancestral.registry", "register"),
}

_MODULES = (  # an.networks.UNet, an.solvers.Heun: the library's packages, each loaded when it is first named
    "conditioning",
    "distributions",
    "guidance",
    "likelihood",
    "metrics",
    "models",
    "networks",
    "noise",
    "oracles",
    "schedules",
    "solvers",
)

__all__ = [
    "GAN",
    "VAE",
    "AncestralError",
    "DataError",
    "DataSet",
    "DataSpec",
    "Denoiser",
    "Diffusion",
    "DistilledModel",
    "GenerativeModel",
    "LatentModel",
    "SampleRequest",
    "ScoreModel",
    "UsageError",
    "compare",
    "configurable",
    "distill",
    "evaluate",
    "export",
    "load",
    "load_data",
    "picture",
    "push",
    "register",
    "report",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Names load what they need when they are first used, so that importing the package costs nothing."""
    if name in _MODULES:
        return import_module(f"ancestral.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'ancestral' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return [*__all__, *_MODULES, "__version__"]
