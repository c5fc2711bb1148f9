"""The library diffusers' AutoencoderKL (Rombach et al. 2022, arXiv:2112.10752), as an autoencoder of latent models.

The network is the library's own and sees pictures in [-1, 1]. The library is imported only when a network is built. The factor
by which pipelines of the library scale latents is left out, because a latent model normalises each channel itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.configuration import configurable
from ancestral.errors import AncestralError, UsageError

NAME = "AutoencoderKL"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"  # files of a model saved by the library
PIXELS = 2**16  # pixels in one pass of the network


def library() -> Any:
    """Import the class `AutoencoderKL`. Raises AncestralError if the package is not installed."""
    try:
        from diffusers import AutoencoderKL
    except ImportError:
        raise AncestralError(
            "this autoencoder is a network of the package diffusers, which is not installed: pip install 'ancestral[diffusers]'"
        ) from None
    return AutoencoderKL


def read(folder: Path) -> Mapping[str, Tensor]:
    """Read the weights in a folder, with the present names for files of older versions of the library.

    Raises:
        UsageError: if the folder cannot be read, or its weights do not fit its configuration.
    """
    try:
        network, report = library().from_pretrained(
            folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"cannot read the {NAME} in {folder}: {str(error).splitlines()[0]}") from None
    if odd := [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]:
        raise UsageError(
            f"{folder / WEIGHTS} does not hold the weights that {CONFIG} describes: {odd[0]} is missing or different"
        )
    weights: Mapping[str, Tensor] = network.state_dict()
    return weights


def halvings(config: Mapping[str, Any]) -> int:
    """Return how many times the network of a configuration halves each side of a picture."""
    return len(config.get("block_out_channels", (64,))) - 1


@configurable
class DiffusersAutoencoder(nn.Module):
    """The library's autoencoder, for pictures in the units of the data.

    Args:
        config: the library's configuration, as in its config.json.
        shape: of pictures `(c, h, w)`.
        bounds: the range of their values.

    Raises:
        UsageError: if the network cannot take such pictures.
    """

    def __init__(self, config: Mapping[str, Any], shape: Sequence[int], bounds: tuple[float, float]):
        super().__init__()
        c, *space = shape
        f = 2 ** halvings(config)
        if c != config.get("in_channels", 3):
            raise UsageError(f"the autoencoder takes pictures of {config.get('in_channels', 3)} channels, and these have {c}")
        if any(side % f for side in space):
            h, w = space
            raise UsageError(f"the autoencoder makes sides {f} times smaller, and {f} does not divide {h}x{w}: resize pictures")
        self.network = library().from_config(dict(config))
        self.bounds = bounds
        self.latent_shape = (int(config.get("latent_channels", 4)), *(side // f for side in space))
        self.part = max(1, PIXELS // (space[0] * space[1]))

    def encode(self, x: Tensor, condition: Any = None) -> Tensor:
        """Encode pictures x as the centres of q(z | x) `(n, c, h, w)`."""
        low, high = self.bounds
        y = 2 * (x - low) / (high - low) - 1
        return torch.cat([self.network.encode(part).latent_dist.mode() for part in y.split(self.part)]).float()

    def decode(self, z: Tensor, condition: Any = None) -> Tensor:
        """Decode latents to pictures in the units of the data."""
        low, high = self.bounds
        y = torch.cat([self.network.decode(part).sample for part in z.split(self.part)]).float()
        return low + (y + 1) / 2 * (high - low)
