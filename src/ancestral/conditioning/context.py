"""The encoded conditions of samples, in the forms that networks accept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ancestral.configuration import configurable


@configurable
@dataclass(frozen=True)
class ContextShape:
    """The widths d, e, c of a `Context`'s forms, from which networks are built. 0 means that a form is absent."""

    vector: int = 0
    tokens: int = 0
    channels: int = 0

    @staticmethod
    def merge(shapes: Sequence[ContextShape]) -> ContextShape:
        """Return the widths after `Context.merge`. Vectors and tokens must agree in width, and channels add up."""
        vectors, tokens = ({getattr(s, form) for s in shapes} - {0} for form in ("vector", "tokens"))
        if len(vectors) > 1 or len(tokens) > 1:
            raise ValueError(f"vectors of widths {sorted(vectors)} and tokens of widths {sorted(tokens)} do not merge")
        return ContextShape(max(vectors, default=0), max(tokens, default=0), sum(s.channels for s in shapes))


NOTHING = ContextShape()


@dataclass(frozen=True)
class Context:
    """Encoded conditions of n samples. A form that is None is absent.

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
        """Merge several conditions of the same samples: vectors are added, tokens and channels are concatenated."""
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
        """Join the contexts of several batches. Different numbers of tokens are padded to the largest, with a mask.

        Raises ValueError if only some of the contexts have a form.
        """
        joined = {}
        counts = [context.tokens.shape[1] for context in contexts if context.tokens is not None]
        if len(set(counts)) > 1:
            contexts = [context._padded(max(counts)) for context in contexts]
        for field in fields(Context):
            parts = [getattr(context, field.name) for context in contexts]
            if any((part is None) != (parts[0] is None) for part in parts):
                raise ValueError(f"contexts with {field.name} and without do not join")
            joined[field.name] = None if parts[0] is None else torch.cat(parts)
        return Context(**joined)

    def _padded(self, m: int) -> Context:
        """Return the context with m tokens and a mask."""
        if self.tokens is None:
            return self
        n, real, _ = self.tokens.shape
        mask = torch.ones(n, real, dtype=torch.bool, device=self.tokens.device) if self.mask is None else self.mask
        return replace(self, tokens=F.pad(self.tokens, (0, 0, 0, m - real)), mask=F.pad(mask, (0, m - real)))

    def only(self, *forms: str) -> Context:
        """Return the context with only the named forms. Tokens keep their mask."""
        kept = {*forms, "mask"} if "tokens" in forms else {*forms}
        return Context(**{field.name: getattr(self, field.name) for field in fields(Context) if field.name in kept})

    def detach(self) -> Context:
        """Return the context without gradients to its encoder."""
        values = {field.name: getattr(self, field.name) for field in fields(Context)}
        return Context(**{name: None if v is None else v.detach() for name, v in values.items()})

    def float(self) -> Context:
        """Return the context in float32, since derivatives and ODEs need it; networks cast it to lower precision."""
        values = {field.name: getattr(self, field.name) for field in fields(Context)}
        return Context(**{name: v if v is None or v.dtype == torch.bool else v.float() for name, v in values.items()})

    def take(self, rows: Tensor) -> Context:
        """Return the contexts of some of the samples."""
        values = {field.name: getattr(self, field.name) for field in fields(Context)}
        return Context(**{name: None if v is None else v[rows] for name, v in values.items()})
