"""Networks of the library diffusers: AutoencoderKL (Rombach et al. 2022, arXiv:2112.10752), UNet2DModel, UNet2DConditionModel.

The networks are the library's own, which is imported only when one is built. An autoencoder sees pictures in [-1, 1]. The
factor by which pipelines of the library scale latents is left out, because a latent model normalises each channel itself. A
U-Net takes the number of a step of its chain as the noise level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.conditioning import NOTHING, Context, ContextShape
from ancestral.configuration import configurable
from ancestral.errors import AncestralError, UsageError
from ancestral.schedules import Chain

NAME = "AutoencoderKL"
UNET, CROSS = "UNet2DModel", "UNet2DConditionModel"  # CROSS has cross-attention to tokens
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"  # files of a model saved by the library
PIXELS = 2**16  # pixels in one pass of the network


def library(name: str = NAME) -> Any:
    """Import a class of the library. Raises AncestralError if the package is not installed."""
    try:
        import diffusers
    except ImportError:
        raise AncestralError(
            f"{name} is a network of the package diffusers, which is not installed: pip install 'ancestral[diffusers]'"
        ) from None
    return getattr(diffusers, name)


def read(folder: Path, name: str = NAME) -> Mapping[str, Tensor]:
    """Read the weights in a folder, with the present names for files of older versions of the library.

    Args:
        folder: the folder that the library wrote.
        name: the class of the network.

    Raises:
        UsageError: if the folder cannot be read, or its weights do not fit its configuration.
    """
    try:
        network, report = library(name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise UsageError(f"cannot read the {name} in {folder}: {str(error).splitlines()[0]}") from None
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


@configurable
class DiffusersUNet(nn.Module):
    """The library's U-Net: (z `(n, c, h, w)`, logsnr `(n,)`, Context) -> a tensor shaped as z.

    It takes step i = 0..T-1 of a chain as the noise level, which is the level after i + 1 steps here (`steps`). It is a
    UNet2DConditionModel if the context has tokens, which are its encoder hidden states, and else a UNet2DModel.

    Args:
        config: the library's configuration, as in its config.json.
        chain: the chain whose steps are the network's noise levels; None: `Chain.linear()`.
        context: widths of the context, of which the vector is added to the embedding of the noise level.

    Raises:
        UsageError: if the network cannot read such a context.
        AncestralError: if the package is not installed.
    """

    table: Tensor

    def __init__(self, config: Mapping[str, Any], chain: Chain | None = None, context: ContextShape = NOTHING):
        super().__init__()
        if context.channels:
            raise UsageError(
                "the network unet-diffusers reads conditions as a vector or as tokens, as of a class, of numbers or of a text, "
                "and not as maps: choose model.net=unet for other conditions"
            )
        self.chain = Chain.linear() if chain is None else chain
        self.register_buffer("table", self.chain.alphas_bar.log().float(), persistent=False)
        self.name = CROSS if context.tokens else UNET
        asked: dict[str, Any] = {"class_embed_type": "identity"} if context.vector else {}
        asked |= {"cross_attention_dim": context.tokens} if context.tokens else {}
        self.network = library(self.name).from_config({**config, **asked})
        self.context = nn.Linear(context.vector, embedding_width(config)) if context.vector else None

    def forward(self, z: Tensor, logsnr: Tensor, context: Context) -> Tensor:
        added = {} if self.context is None else {"class_labels": self.context(context.vector)}
        if self.name == CROSS:
            added |= {"encoder_hidden_states": context.tokens, "encoder_attention_mask": context.mask}
        out: Tensor = self.network(z, self.steps(logsnr), **added).sample
        return out

    def steps(self, logsnr: Tensor) -> Tensor:
        """Return the steps i `(n,)` of log SNRs, from 0 to T-1. Between two steps log abar is linear in i, as in `Chain`."""
        log_abar = F.logsigmoid(logsnr.float())
        j = ((self.table >= log_abar[:, None]).sum(1) - 1).clamp(0, len(self.table) - 2)
        start, end = self.table[j], self.table[j + 1]
        i = (j + (log_abar - start) / (end - start)).clamp(0, len(self.table) - 1)
        whole = i.round()
        return torch.where((i - whole).abs() < 1e-3, whole, i)  # exactly the library's numbers at its steps


def embedding_width(config: Mapping[str, Any]) -> int:
    """Return the width of the embedding of the noise level in the U-Net of a configuration."""
    return int(config.get("time_embedding_dim") or 4 * config["block_out_channels"][0])


def unet_config(
    shape: Sequence[int],
    channels: Sequence[int] | None = None,
    blocks: int = 1,
    dropout: float = 0.0,
    tokens: bool = False,
) -> dict[str, Any]:
    """Return the library's configuration of a U-Net for images, with attention at the coarsest level.

    Args:
        shape: of an image `(c, h, w)`.
        channels: features of each level. None: as many levels as lead to a map of 8 per side, if they divide the sides.
        blocks: residual blocks per level.
        dropout: the dropout rate.
        tokens: whether the attention also reads the tokens of a context.

    Raises:
        UsageError: if the levels do not divide the sides.
    """
    c, *space = shape
    if channels is None:
        levels = max(2, 1 + math.ceil(math.log2(max(1.0, max(space) / 8))))
        while levels > 1 and any(side % 2 ** (levels - 1) for side in space):
            levels -= 1
        channels = [64 * min(2**level, 4) for level in range(levels)]
    if any(side % 2 ** (len(channels) - 1) for side in space):
        sides = "x".join(map(str, space))
        raise UsageError(f"each level halves the sides, and {len(channels)} levels do not divide {sides}: give fewer channels")
    plain = len(channels) - 1
    common = math.gcd(*channels)
    width = 64 if channels[-1] % 64 == 0 else channels[-1]  # of a head
    attention = "CrossAttn" if tokens else "Attn"
    return {
        "sample_size": space[0] if space[0] == space[1] else tuple(space),
        "in_channels": c,
        "out_channels": c,
        "block_out_channels": tuple(channels),
        "down_block_types": (*["DownBlock2D"] * plain, f"{attention}DownBlock2D"),
        "up_block_types": (f"{attention}UpBlock2D", *["UpBlock2D"] * plain),
        "layers_per_block": blocks,
        "norm_num_groups": math.gcd(32, common, max(1, common // 4)),  # norms of single channels would lose the noise level
        "attention_head_dim": channels[-1] // width if tokens else width,  # a UNet2DConditionModel reads the number of heads
        "dropout": dropout,
    }
