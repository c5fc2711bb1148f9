from typing import Literal

import torch
from pydantic import Field
from torch import nn

import ancestral as an
from ancestral.app.recipes import FamilyRecipe
from ancestral.app.recipes.base import units
from ancestral.gaussian import Gaussian
from ancestral.models import GenerativeModel
from ancestral.schedules import Level
from ancestral.solvers import State

PRIOR, DATA = Level(1.0, 0.0, 1.0), Level(0.0, 1.0, 0.0)


class Flow(GenerativeModel):
    """RealNVP for vectors (Dinh et al. 2017, arXiv:1605.08803): x = f(z), z ~ N(0, I), f invertible, so that

        log p(x) = log N(f^-1(x); 0, I) + log |det df^-1/dx|

    Each layer leaves half of the numbers alone and moves the others by what these say, h -> h exp(s) + t.
    """

    def __init__(self, shape, layers, width, **options):
        super().__init__(shape, **options)
        self.latent_shape, d = self.shape, self.dimensions
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(d, width), nn.SiLU(), nn.Linear(width, 2 * d)) for _ in range(layers))
        self.register_buffer("alone", (torch.arange(d) + torch.arange(layers)[:, None]) % 2 == 0)  # (layers, d)

    def coupling(self, i, h):
        s, t = self.nets[i](h * self.alone[i]).chunk(2, 1)
        return ~self.alone[i] * s.tanh(), ~self.alone[i] * t

    def inverse(self, x):
        """z = f^-1(x) `(n, d)`, and log |det df^-1/dx| `(n,)`."""
        log_det = 0
        for i in range(len(self.nets)):
            s, t = self.coupling(i, x)
            x, log_det = x * s.exp() + t, log_det + s.sum(1)
        return x, log_det

    def push(self, z):
        """x = f(z)."""
        for i in reversed(range(len(self.nets))):
            s, t = self.coupling(i, z)
            z = (z - t) * (-s).exp()
        return z

    def losses(self, batch, player, noise):
        z, log_det = self.inverse(self.standardize.normalize(batch.x))
        return {"total": -Gaussian(torch.zeros_like(z), torch.ones_like(z)).log_prob(z) - log_det}

    def sample_path(self, noise, context):
        z = noise.normal(self.shape)
        yield State(z, PRIOR, None, 0, 0, 1)
        yield State(self.push(z), DATA, None, 1, 1, 1)

    def encode(self, x, condition=None):
        with self.inference():
            return self.inverse(self.standardize.normalize(x))[0]

    def decode(self, z, condition=None):
        with self.inference():
            return self.standardize.denormalize(self.push(z))


@an.register("family", "flow", "a normalising flow for vectors")
class FlowRecipe(FamilyRecipe):
    """A normalising flow."""

    family: Literal["flow"] = "flow"
    layers: int = Field(8, ge=2, description="couplings")
    width: int = Field(64, ge=1, description="features of each coupling's network")

    def accepts(self, spec):
        return ()  # it is told nothing: --condition is refused

    def unfit(self, spec):
        return None if len(spec.shape) == 1 else "it is for vectors"  # `compare` leaves it out, and says so

    def build(self, spec):
        return Flow(spec.shape, self.layers, self.width, conditioner=self.conditioner(spec), **units(spec))
