"""Claims about the cost of a smaller space.

Compute and memory are counted, not timed: floating point operations, and the bytes that autograd stores. Both are the same on
every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ancestral.app.theory.claims import Along, Sides, at_most, claim, draws, equal, table
from ancestral.app.theory.latent.models import FACTORS, in_latents, in_pixels
from ancestral.batch import Batch
from ancestral.conditioning import Context
from ancestral.models.diffusion import Diffusion
from ancestral.models.latent import LatentModel
from ancestral.networks import UNet

F = torch.tensor(FACTORS, dtype=torch.float64)


def operations(work: Callable[[], object]) -> int:
    """Count the multiplications and additions of a computation."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return int(counter.get_total_flops())


def step(model: Diffusion | LatentModel) -> int:
    """Count the operations of one sampling step."""
    return operations(lambda: list(model.sample_path(draws(1), Context(), steps=1, solver="ddim")))


def stored_activations(model: Diffusion) -> int:
    """Count the bytes of activations that one training step with one sample stores for the backward pass."""
    sizes = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        held = model.losses(Batch(torch.zeros(1, *model.shape)), "model", draws(1))
    del held
    return sum(sizes.values())


def inner(model: LatentModel) -> Diffusion:
    assert isinstance(model.prior, Diffusion)
    return model.prior


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@claim("Rombach et al. 2022, section 3.1 and 4.1", (LatentModel.sample_path, UNet.forward))
def compute() -> Iterator[Sides]:
    """A denoising step of equal width costs f² times less in a latent space whose sides are f times smaller

        cost of a convolution = positions × channels in × channels out × 9 × 2,     positions: H W  →  H W / f²

    Every layer of the network does the same at each position, so operations are proportional to positions, except for the
    embedding of t, which is computed once per sample. Attention compares all pairs of positions, so its ratio is above f². The
    decoder runs once: a decoded sample of four steps costs less than a sample in pixels.
    """
    big, small = step(in_pixels()), [step(in_latents(f)) for f in FACTORS]
    along = Along("f", F, "operations, pixels / latents", "xy")
    yield equal("f²", big / torch.tensor(small).double(), F**2, tolerance=0.05, along=along)
    big, small = step(in_pixels(1)), [step(in_latents(f, 1)) for f in FACTORS]
    yield at_most("with attention; dots: f²", F**2, big / torch.tensor(small).double(), tolerance=0.0, along=along)
    pixels, latents = in_pixels(), in_latents(4)
    yield equal("parameters of both denoisers", parameters(pixels), parameters(inner(latents)), tolerance=0.0)
    decoded, whole = (operations(partial(model.sample, 1, seeds=0, steps=4)) for model in (latents, pixels))
    yield at_most("a decoded sample of 4 steps with f = 4; a sample in pixels", decoded, whole, tolerance=0.0)


@claim("Rombach et al. 2022, section 3.1", (LatentModel.losses, Diffusion.losses, UNet.forward))
def memory() -> Iterator[Sides]:
    """A training step of equal width stores f² times less in a latent space whose sides are f times smaller

        bytes = Σ over layers of  4 × channels × positions

    Autograd's own hooks count each block of memory once, in one training step with one sample.
    """
    along = Along("f", F, "bytes stored, pixels / latents", "xy")
    (small,) = table([stored_activations(inner(in_latents(f)))] for f in FACTORS)
    yield equal("f²", stored_activations(in_pixels()) / small, F**2, tolerance=0.06, along=along)
    (small,) = table([stored_activations(inner(in_latents(f, 1)))] for f in FACTORS)
    yield at_most("with attention; dots: f²", F**2, stored_activations(in_pixels(1)) / small, tolerance=0.0, along=along)
