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
    def cat(contexts: Sequence[Context]) -> Context:
        """The contexts of several batches as one; all must have the same fields."""
        joined = {}
        for field in fields(Context):
            parts = [getattr(context, field.name) for context in contexts]
            joined[field.name] = None if parts[0] is None else torch.cat(parts)
        return Context(**joined)
