"""Conditions on a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ancestral.conditioning.conditioner import Condition, one_or_each
from ancestral.conditioning.context import Context, ContextShape
from ancestral.conditioning.render import Rendering
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.suggest import unknown
from ancestral.transfer import onto


@configurable
class ClassCondition(Condition):
    """A condition on a class: a label -> a learned vector `(n, width)`. Raw tensors are labels `(n,)`.

    Row `len(names)` of the table is the null.

    Args:
        names: of the classes, in label order.
        width: of the vector.
    """

    source = "class"

    def __init__(self, names: Sequence[str], width: int):
        super().__init__()
        self.names = tuple(names)
        self.table = nn.Embedding(len(names) + 1, width)
        self.widths = ContextShape(vector=width)

    @property
    def language(self) -> tuple[Any, ...]:
        return (type(self), self.names)

    def column(self, values: Tensor) -> Tensor:
        return values

    def parse(self, value: Any, n: int) -> Tensor:
        """Return labels from a class name, an index, or a sequence of n of these. A tensor has labels already."""
        if isinstance(value, Tensor):
            if value.numel() and not 0 <= int(value.min()) <= int(value.max()) < len(self.names):
                raise UsageError(f"labels must be numbers from 0 to {len(self.names) - 1}, found {value.tolist()}")
            return one_or_each(value.long(), n, value.ndim == 0, "classes", lambda label: label)
        single = np.ndim(value) == 0
        return one_or_each(value, n, single, "classes", lambda v: torch.tensor(index_of(v, self.names, "class")))

    def render(self, raw: Tensor) -> Rendering:
        return Rendering(words=self.names[int(raw)])

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        null = torch.full((n,), len(self.names), device=self.table.weight.device)
        labels = null if raw is None else onto(raw, null.device)
        if drop is not None:
            labels = torch.where(onto(drop, null.device), null, labels)
        return Context(vector=self.table(labels))


def index_of(value: Any, names: Sequence[str], thing: str) -> int:
    """Return the index of a class by its name, or by its index if no name is a number. Raises UsageError for an unknown class.

    If names are numbers, as of the labels 3, 77 and 500, a number is only a name.
    """
    if str(value) in names:
        return list(names).index(str(value))
    if str(value).isdigit() and int(value) < len(names) and not any(_is_number(name) for name in names):
        return int(value)
    raise UsageError(unknown(thing, str(value), names))


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdigit()
