"""Encoders of the kinds of condition, and the `Conditioner` that holds those of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.conditioning.context import Context
from ancestral.errors import UsageError
from ancestral.names import unknown
from ancestral.randomness import Noise


class Condition(nn.Module):
    """One kind of condition. Subclasses define `parse` (what people write) and `forward` (raw values -> Context)."""

    def parse(self, value: Any, n: int) -> Tensor:
        """Raw condition of n samples from what a caller gave: one value for all, or n values."""
        raise NotImplementedError

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        """raw: n raw conditions, or None where absent; drop: `(n,)` bool, True where the null takes the condition's place."""
        raise NotImplementedError


class ClassCondition(Condition):
    """A class label -> a learned vector `(n, width)`. Row `len(names)` of the table is the null.

    names: of the classes, in label order.
    """

    def __init__(self, names: Sequence[str], width: int):
        super().__init__()
        self.names = tuple(names)
        self.table = nn.Embedding(len(names) + 1, width)

    def parse(self, value: Any, n: int) -> Tensor:
        """Labels `(n,)` from a class name, an index, or a sequence of n of these. Raises UsageError for an unknown class."""
        if isinstance(value, Tensor):
            value = value.tolist()
        values = [value] * n if isinstance(value, str | int) else list(value)
        if len(values) != n:
            raise UsageError(f"{len(values)} classes given for {n} samples: give one, or one for each sample")
        return torch.tensor([self._label(v) for v in values])

    def _label(self, value: Any) -> int:
        if str(value) in self.names:
            return self.names.index(str(value))
        if str(value).isdigit() and int(value) < len(self.names):
            return int(value)
        raise UsageError(unknown("class", str(value), self.names))

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        null = torch.full((n,), len(self.names), device=self.table.weight.device)
        labels = null if raw is None else raw.to(null.device)
        if drop is not None:
            labels = torch.where(drop.to(null.device), null, labels)
        return Context(vector=self.table(labels))


class Conditioner(nn.Module):
    """The conditions of one model, by name; `drop` is the rate at which training replaces each by its null."""

    def __init__(self, kinds: Mapping[str, Condition], drop: float = 0.1):
        super().__init__()
        self.kinds = nn.ModuleDict(kinds)
        self.drop = drop

    def parse(self, condition: Mapping[str, Any] | None, n: int) -> dict[str, Tensor]:
        """Raw conditions of n samples from what a caller wrote, e.g. `{"class": 7}` or `{"class": ["cat", "dog"]}`.

        Raises UsageError for a kind that the model was not trained with, or a value that it does not know.
        """
        condition = condition or {}
        for name in condition:
            if name not in self.kinds:
                known = ", ".join(self.kinds) or "none"
                raise UsageError(f"this model was not trained with the condition {name!r}; its conditions: {known}")
        return {name: self._kind(name).parse(value, n) for name, value in condition.items()}

    def forward(self, raw: Mapping[str, Tensor], n: int, noise: Noise | None = None) -> Context:
        """The context of n samples; absent kinds take their null. With `noise`, training's dropout, per sample and kind."""
        contexts = []
        for name in self.kinds:
            drop = noise.uniform() < self.drop if noise is not None and self.drop > 0 else None
            contexts.append(self._kind(name)(raw.get(name), n, drop))
        return Context.merge(contexts)

    def _kind(self, name: str) -> Condition:
        kind = self.kinds[name]
        assert isinstance(kind, Condition)
        return kind

    def null(self, n: int) -> Context:
        """The context of n samples of which nothing is asked."""
        context: Context = self({}, n)
        return context
