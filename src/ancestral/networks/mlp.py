"""A residual multilayer perceptron for vectors."""

from __future__ import annotations

from torch import Tensor, nn

from ancestral.conditioning import NOTHING, Context, ContextShape
from ancestral.configuration import configurable
from ancestral.networks.layers import NoiseEmbedding, zero


@configurable
class MLP(nn.Module):
    """An MLP of residual blocks: (z `(n, d)`, logsnr `(n,)`, Context) -> `(n, d)`. Noise level and context modulate the blocks.

    Args:
        features: d.
        width: of the blocks.
        blocks: the number of blocks.
        context: widths of the context; only its vector is used.
        second_time: whether `forward` takes a second log SNR `(n,)`, as a `FlowMap` needs.
    """

    def __init__(
        self,
        features: int,
        width: int = 128,
        blocks: int = 3,
        context: ContextShape = NOTHING,
        second_time: bool = False,
    ):
        super().__init__()
        self.noise = NoiseEmbedding(width, second_time=second_time)
        self.context = nn.Linear(context.vector, width) if context.vector else None
        self.stem = nn.Linear(features, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.head = zero(nn.Linear(width, features))

    def forward(self, z: Tensor, logsnr: Tensor, context: Context, second: Tensor | None = None) -> Tensor:
        embedding = self.noise(logsnr, second)
        if self.context is not None:
            embedding = embedding + self.context(context.vector)
        h = self.stem(z)
        for block in self.blocks:
            h = block(h, embedding)
        out: Tensor = self.head(nn.functional.silu(h))
        return out


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.modulation = nn.Linear(width, width)
        self.second = zero(nn.Linear(width, width))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        silu = nn.functional.silu
        out: Tensor = h + self.second(silu(self.first(silu(h)) + self.modulation(embedding)))
        return out
