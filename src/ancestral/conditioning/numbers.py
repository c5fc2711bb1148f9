"""Conditions on real numbers: an age, an angle, the parameters of a simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from ancestral.units import dtype_of

OCTAVES = 4  # frequencies of the features: periods of 8, 4, 2 and 1 standard deviations, so that gaps are bridged smoothly
SHOWN = 6  # numbers of a sample that are written in words


@configurable
class NumberCondition(Condition):
    """A condition on k real numbers -> a vector `(n, width)`, which is continuous in each of them:

        z_j = (y_j - mean_j) / std_j
        f_j = (z_j, sin(w_i z_j), cos(w_i z_j)),   w_i = pi / 4 * 2^i,   i < OCTAVES
        vector = MLP(f_1, ..., f_k)

    If a number is unknown or dropped, its learned null replaces its features. Training drops all numbers together, and also
    single ones, so that a user can give some numbers and leave others open.

    Args:
        names: of the k numbers.
        mean, std: of each number, over the training samples for which it is known.
        width: of the vector.

    Raw: `(n, k)` in the units of the data, NaN where a number is unknown or not asked for; float32, or float64 if float32 would
    lose what distinguishes the samples (`dtype_of`).
    """

    source = "number"

    def __init__(self, names: Sequence[str], mean: Sequence[float], std: Sequence[float], width: int):
        super().__init__()
        self.names = tuple(names)
        self.parts = len(self.names)
        self.mean: Tensor
        self.std: Tensor
        units = torch.tensor([mean, std], dtype=torch.float64)
        dtype = dtype_of(*units)
        self.register_buffer("mean", units[0].to(dtype))
        self.register_buffer("std", units[1].to(dtype))
        features = 1 + 2 * OCTAVES
        self.null = nn.Parameter(torch.randn(self.parts, features))
        self.mlp = nn.Sequential(nn.Linear(self.parts * features, width), nn.SiLU(), nn.Linear(width, width))
        self.widths = ContextShape(vector=width)

    @property
    def language(self) -> tuple[Any, ...]:
        return (type(self), self.names)

    def column(self, values: Tensor) -> Tensor:
        return values.to(self.mean.dtype)

    def parse(self, value: Any, n: int) -> Tensor:
        """Return raw numbers from the caller's value, for all n samples or for each.

        Args:
            value: a number, if the model has only one; a mapping such as {"angle": 30, "size": 2}, whose missing numbers are
                left open; a sequence of n of these, or of rows of k numbers; a tensor `(k,)`, `(n, k)`, or `(n,)` if k is 1.
            n: the number of samples.

        Returns:
            `(n, k)`.

        Raises:
            UsageError: if a name is unknown, the count is wrong, or a number is not finite.
        """
        if hasattr(value, "__array__") and not isinstance(value, Tensor):  # numpy
            value = torch.as_tensor(value)
        if isinstance(value, Tensor):
            rows = value.to(self.mean.dtype)
            if self.parts == 1 and rows.ndim < 2 and (rows.ndim == 0 or len(rows) == n or len(rows) != 1):
                rows = rows[..., None]
            if rows.ndim not in (1, 2) or rows.shape[-1] != self.parts:
                raise UsageError(f"{self._expected()}, found a tensor of shape {tuple(value.shape)}")
            if rows.isinf().any():
                raise UsageError("the numbers of a condition must be finite, found inf: give NaN to leave a number open")
            return one_or_each(rows, n, rows.ndim == 1, "numbers", lambda row: row)
        single = isinstance(value, Mapping | str) or not isinstance(value, Sequence)
        return one_or_each(value, n, single, "numbers", self._read)

    def render(self, raw: Tensor) -> Rendering:
        words = [f"{name} {v:.6g}" for name, v in zip(self.names, raw.tolist(), strict=True) if not math.isnan(v)]
        more = [f"{len(words) - SHOWN} more numbers"] if len(words) > SHOWN else []
        return Rendering(words=", ".join(words[:SHOWN] + more))

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        device = self.null.device
        raw = torch.full((n, self.parts), math.nan) if raw is None else raw
        z = ((onto(raw.to(self.mean.dtype), device) - self.mean) / self.std).float()  # NaN stays NaN
        absent = z.isnan()
        if drop is not None:
            absent = absent | onto(drop if drop.ndim == 2 else drop[:, None], device)
        features = torch.where(absent[..., None], self.null, fourier(z.nan_to_num()))
        return Context(vector=self.mlp(features.flatten(1)))

    def _read(self, value: Any) -> Tensor:
        """Return the numbers of one sample `(k,)`."""
        if isinstance(value, str):
            raise UsageError(f"{self._expected()}, found the text {value!r}")
        if isinstance(value, Mapping):
            if wrong := [name for name in value if name not in self.names]:
                raise UsageError(unknown("number", wrong[0], self.names))
            values = [_finite(value[name], name) if name in value else math.nan for name in self.names]
            return torch.tensor(values, dtype=self.mean.dtype)
        numbers = list(value) if isinstance(value, Sequence) or np.ndim(value) else [value]
        if len(numbers) != self.parts:
            raise UsageError(f"{self._expected()}, found {len(numbers)}")
        values = [_finite(number, name) for number, name in zip(numbers, self.names, strict=True)]
        return torch.tensor(values, dtype=self.mean.dtype)

    def _expected(self) -> str:
        if self.parts == 1:
            return f"this model was trained with one number, {self.names[0]}"
        some = ", ".join(f'"{name}": ...' for name in self.names[:3])
        return f"this model was trained with {self.parts} numbers: write {{{some}}}"


def read(text: str, names: Sequence[str]) -> dict[str, float]:
    """Parse a text with numbers, e.g. `0.3` if there is one name, or `angle=30,size=2`.

    Returns:
        The numbers by name, without those that are not written.

    Raises:
        UsageError: if a number has no name and there are several names, a name is unknown or given twice, or a value is not a
            finite number.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (word.strip() for word in part.rpartition("="))
        if not equals:
            if len(names) != 1:
                raise UsageError(f"{part.strip()!r} has no name of a number: write {names[0]}={part.strip() or 0}")
            name = names[0]
        if name not in names:
            raise UsageError(unknown("number", name, names))
        if name in found:
            raise UsageError(f"the number {name} is given twice in {text!r}: give it once")
        found[name] = _finite(number, name)
    return found


def fourier(z: Tensor) -> Tensor:
    """Return features of standardised numbers z `(n, k)`: z, and sin and cos of pi/4 2^i z, `(n, k, 1 + 2 OCTAVES)`."""
    angle = z[..., None] * (math.pi / 4 * 2.0 ** torch.arange(OCTAVES, device=z.device))
    return torch.cat([z[..., None], angle.sin(), angle.cos()], -1)


def _finite(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UsageError(f"the number {name} is written as 0.3 or -2e5, found {value!r}") from None
    if not math.isfinite(number):
        raise UsageError(f"the number {name} must be finite, found {value!r}: leave it out to leave it open")
    return number
