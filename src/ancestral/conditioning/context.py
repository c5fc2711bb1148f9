"""What a network is told about a sample, in the four forms that networks can consume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Context:
    """Encoded conditions of n samples; what is None is absent.

    vector:   `(n, d)`, enters by modulation.
    tokens:   `(n, m, e)`, enter by cross-attention.
    mask:     `(n, m)` bool, True where a token is real.
    channels: `(n, c, *space)`, enter by concatenation to the input.
    """

    vector: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    channels: Tensor | None = None

    @staticmethod
    def merge(contexts: Sequence[Context]) -> Context:
        """Several conditions of the same samples as one: vectors add up, tokens and channels stand side by side."""
        vectors = [c.vector for c in contexts if c.vector is not None]
        channels = [c.channels for c in contexts if c.channels is not None]
        tokens = [c.tokens for c in contexts if c.tokens is not None]
        masks = [
            torch.ones(c.tokens.shape[:2], dtype=torch.bool, device=c.tokens.device) if c.mask is None else c.mask
            for c in contexts
            if c.tokens is not None
        ]
        return Context(
            vector=torch.stack(vectors).sum(0) if vectors else None,
            tokens=torch.cat(tokens, 1) if tokens else None,
            mask=torch.cat(masks, 1) if masks else None,
            channels=torch.cat(channels, 1) if channels else None,
        )

    @staticmethod
    def cat(contexts: Sequence[Context]) -> Context:
        """The contexts of several batches as one; all must have the same fields."""
        joined = {}
        for field in fields(Context):
            parts = [getattr(context, field.name) for context in contexts]
            joined[field.name] = None if parts[0] is None else torch.cat(parts)
        return Context(**joined)
