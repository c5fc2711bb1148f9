"""Conditions on the output of an encoder that is not part of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.conditioning.conditioner import Condition, one_or_each, where
from ancestral.conditioning.context import Context, ContextShape
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.transfer import onto


@configurable
class EmbeddingCondition(Condition):
    """A condition on vectors that the caller computes, such as the hidden states of a text encoder: tokens `(n, m, width)`.

    Nothing is learned. Raw tensors are the vectors, m of them for each sample, and all samples of a call have the same m. The
    null is one vector of 0.

    Args:
        width: of a vector.
    """

    source = "embedding"

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.null: Tensor
        self.register_buffer("null", torch.zeros(1, 1, width), persistent=False)
        self.widths = ContextShape(tokens=width)

    @property
    def language(self) -> tuple[Any, ...]:
        return (type(self), self.width)

    def column(self, values: Tensor) -> Tensor:
        return values

    def parse(self, value: Any, n: int) -> Tensor:
        """Return the vectors from an array `(m, width)` for all samples, or `(n, m, width)`."""
        try:
            raw = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError):
            raw = torch.empty(0)
        if raw.ndim not in (2, 3) or raw.shape[-1] != self.width or not raw.shape[-2] or not raw.is_floating_point():
            raise UsageError(
                f"an embedding is an array of real numbers of shape (m, {self.width}), m vectors for all samples, or "
                f"(n, m, {self.width}), found {tuple(raw.shape) if raw.numel() else type(value).__name__}"
            )
        return one_or_each(raw.float(), n, raw.ndim == 2, "embeddings", lambda rows: rows)

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        if raw is None:
            return Context(tokens=self.null.expand(n, 1, -1))
        return Context(tokens=where(drop, self.null, onto(raw, self.null.device)))
