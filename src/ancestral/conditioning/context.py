"""What a network is told about a sample, in the four forms that networks can consume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ancestral.configuration import configurable


@configurable
@dataclass(frozen=True)
class ContextShape:
    """The widths d, e, c of a `Context`'s forms, from which networks are built; 0 where a form is absent."""

    vector: int = 0
    tokens: int = 0
    channels: int = 0

    @staticmethod
    def merge(shapes: Sequence[ContextShape]) -> ContextShape:
        """Of what `Context.merge` makes: vectors and tokens must agree in width where present, channels add up."""
        vectors, tokens = ({getattr(s, form) for s in shapes} - {0} for form in ("vector", "tokens"))
        if len(vectors) > 1 or len(tokens) > 1:
            raise ValueError(f"vectors of widths {sorted(vectors)} and tokens of widths {sorted(tokens)} do not merge")
        return ContextShape(max(vectors, default=0), max(tokens, default=0), sum(s.channels for s in shapes))


NOTHING = ContextShape()


@dataclass(frozen=True)
class Context:
    """Encoded conditions of n samples; what is None is absent.

    vector:   `(n, d)`, enters by modulation.
    tokens:   `(n, m, e)`, enter by cross-attention.
    mask:     `(n, m)` bool, True where a token is real; at least one is, in every sample.
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
        """The contexts of several batches as one. Raises ValueError where a form is in some of them and not in others."""
        joined = {}
        for field in fields(Context):
            parts = [getattr(context, field.name) for context in contexts]
            if any((part is None) != (parts[0] is None) for part in parts):
                raise ValueError(f"contexts with {field.name} and without do not join")
            joined[field.name] = None if parts[0] is None else torch.cat(parts)
        return Context(**joined)

    def only(self, *forms: str) -> Context:
        """The same without the forms that are not named; tokens keep their mask."""
        kept = {*forms, "mask"} if "tokens" in forms else {*forms}
        return Context(**{field.name: getattr(self, field.name) for field in fields(Context) if field.name in kept})

    def detach(self) -> Context:
        """The same, giving no gradient to what encoded it."""
        values = {field.name: getattr(self, field.name) for field in fields(Context)}
        return Context(**{name: None if v is None else v.detach() for name, v in values.items()})

    def float(self) -> Context:
        """The same in float32: who reads it in lower precision casts it, and derivatives and ODEs, which must not, need not."""
        values = {field.name: getattr(self, field.name) for field in fields(Context)}
        return Context(**{name: v if v is None or v.dtype == torch.bool else v.float() for name, v in values.items()})

    def take(self, rows: Tensor) -> Context:
        """The contexts of some of the samples."""
        values = {field.name: getattr(self, field.name) for field in fields(Context)}
        return Context(**{name: None if v is None else v[rows] for name, v in values.items()})
