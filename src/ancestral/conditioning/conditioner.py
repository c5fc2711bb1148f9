"""The base class of a kind of condition, and the `Conditioner` with all conditions of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ancestral.conditioning.context import Context, ContextShape
from ancestral.conditioning.render import Rendering
from ancestral.configuration import configurable
from ancestral.errors import UsageError
from ancestral.noise import Noise
from ancestral.transfer import onto


class Condition(nn.Module):
    """One kind of condition. It turns data or users' values into raw tensors, and raw tensors into a `Context`.

    A raw tensor has a row for each sample and is as small as the data: labels, token ids, boxes, a map. It is made once, by
    `column`, or by `derive` for kinds that depend on the sample itself. `forward` is learned.
    `source` is the column of the data, or None for derived kinds. `widths` are the widths of its context.
    """

    source: ClassVar[str | None] = None
    parts: int = 1  # parts that can be unknown independently, such as one of several numbers; training also drops single parts
    mirrored: ClassVar[str | None] = None  # a note for the user if images are mirrored
    notes: tuple[str, ...] = ()  # notes for the user about the fit
    widths: ContextShape

    @property
    def language(self) -> tuple[Any, ...]:
        """Return the meaning of raw tensors. It is equal for two conditions that read raw tensors in the same way."""
        return (type(self),)

    def fit(self, values: Any) -> None:
        """Fit the parts without a gradient, such as a vocabulary, to the training split's column."""

    def column(self, values: Any) -> Tensor:
        """Return the raw tensor of a whole column of the data."""
        raise NotImplementedError

    def derive(self, x: Tensor, noise: Noise) -> Tensor:
        """Return the raw tensor that is derived from samples x `(n, *shape)` in the units of the data."""
        raise NotImplementedError

    def parse(self, value: Any, n: int) -> Tensor:
        """Return the raw tensor of n samples from the caller's value: one for all, or n values, or a raw tensor.

        Raises:
            UsageError: if the value has no meaning.
        """
        raise NotImplementedError

    def mirror(self, raw: Tensor) -> Tensor:
        """Return the raw tensor for samples that are mirrored from left to right."""
        return raw

    def put_back(self, x: Tensor, raw: Tensor) -> Tensor:
        """Return samples x `(n, *shape)` in the units of the data, with the parts that the raw tensor gives exactly."""
        return x

    def render(self, raw: Tensor) -> Rendering:
        """Render the raw tensor of one sample as pictures and words for people."""
        return Rendering()

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        """Encode the raw tensor of n samples, or None for no condition.

        `drop` is bool `(n,)`, or `(n, parts)` if `parts` is more than 1. True replaces the condition by the null.
        """
        raise NotImplementedError


@configurable
class Conditioner(nn.Module):
    """The conditions of one model by name. `drop` is the rate at which training replaces each by its null."""

    def __init__(self, kinds: Mapping[str, Condition], drop: float = 0.1):
        super().__init__()
        self.kinds = nn.ModuleDict(kinds)
        self.drop = drop

    def reads_like(self, other: Conditioner) -> bool:
        """Return whether both have the same kinds, with the same meaning of raw tensors."""
        mine, theirs = ({name: c._kind(name).language for name in c.kinds} for c in (self, other))
        return mine == theirs

    @property
    def widths(self) -> ContextShape:
        """The widths of the context, from which networks are built."""
        return ContextShape.merge([self._kind(name).widths for name in self.kinds])

    @property
    def sources(self) -> set[str]:
        """The columns of the data from which the kinds are made."""
        return {source for name in self.kinds if (source := self._kind(name).source) is not None}

    def fit(self, columns: Mapping[str, Any]) -> None:
        """Fit the parts without a gradient of every kind to the training split's columns."""
        for name in self.kinds:
            if (source := self._kind(name).source) is not None:
                self._kind(name).fit(_found(columns, source, name))

    def notes(self, mirrored: bool) -> tuple[str, ...]:
        """Return notes for the user before training. mirrored: whether images are mirrored from left to right."""
        kinds = [self._kind(name) for name in self.kinds]
        warnings = [kind.mirrored for kind in kinds if mirrored and kind.mirrored]
        return (*(note for kind in kinds for note in kind.notes), *warnings)

    def source(self, name: str) -> str | None:
        """Return the column of the data from which the kind `name` is made, or None for derived kinds."""
        return self._kind(name).source

    def columns(self, columns: Mapping[str, Any], only: str | None = None) -> dict[str, Tensor]:
        """Return the raw tensors of a split, by kind, or of one kind. Raises UsageError if the data lack a column."""
        kinds = self.kinds if only is None else (only,)
        sources = {name: source for name in kinds if (source := self._kind(name).source) is not None}
        return {name: self._kind(name).column(_found(columns, source, name)) for name, source in sources.items()}

    def derive(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the raw tensors that are derived from samples in the units of the data."""
        return {name: self._kind(name).derive(x, noise) for name in self.kinds if self._kind(name).source is None}

    def mirror(self, raw: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Return the raw tensors if the samples of `rows`, bool `(n,)`, are mirrored from left to right."""
        mirrored = dict(raw)
        for name, value in raw.items():
            if name in self.kinds:
                mirrored[name] = torch.where(rows.view(-1, *[1] * (value.ndim - 1)), self._kind(name).mirror(value), value)
        return mirrored

    def parse(self, condition: Mapping[str, Any] | None, n: int) -> dict[str, Tensor]:
        """Return raw conditions of n samples from the caller's values, e.g. `{"class": 7}` or `{"class": ["cat", "dog"]}`.

        Raises:
            UsageError: if the model was not trained with a kind, or does not know a value.
        """
        condition = condition or {}
        for name in condition:
            if name not in self.kinds:
                known = ", ".join(self.kinds) or "none"
                raise UsageError(f"this model was not trained with the condition {name!r}; its conditions: {known}")
        return {name: self._kind(name).parse(value, n) for name, value in condition.items()}

    def check_given(self, raw: Mapping[str, Tensor]) -> None:
        """Raise UsageError if a condition is not given and its null was not trained."""
        if not self.drop and (missing := [name for name in self.kinds if name not in raw]):
            raise UsageError(
                f"this model always had the condition {missing[0]} in its training (model.condition_dropout=0), so it cannot "
                "draw samples without it: give it"
            )

    def put_back(self, x: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        """Return samples x `(n, *shape)` in the units of the data, with the parts that their conditions give exactly."""
        for name, value in raw.items():
            x = self._kind(name).put_back(x, value)
        return x

    def context(self, condition: Mapping[str, Any] | Context | None, n: int) -> Context:
        """Return the context of n samples from the caller's values (`parse`). A context is returned as it is."""
        if isinstance(condition, Context):
            return condition
        context: Context = self(self.parse(condition, n), n)
        return context

    def render(self, raw: Mapping[str, Tensor], texts: Sequence[str | None] | None = None) -> list[Rendering]:
        """Render the conditions of each sample for people. `texts` are the texts from which raw tensors were made."""
        parts = [[self._kind(name).render(row) for row in rows.cpu()] for name, rows in raw.items()]
        if texts is not None and "text" in raw:
            parts.append([Rendering(words=text or "") for text in texts])
        return [Rendering.merge(of_one) for of_one in zip(*parts, strict=True)]

    def forward(self, raw: Mapping[str, Tensor], n: int, noise: Noise | None = None) -> Context:
        """Return the context of n samples. Absent kinds have their null. `noise` turns on dropout, per sample and kind."""
        contexts = []
        for name in self.kinds:
            drop = noise.uniform() < self.drop if noise is not None and self.drop > 0 else None
            if noise is not None and drop is not None and (parts := self._kind(name).parts) > 1:
                drop = drop[:, None] | (noise.uniform((parts,)) < self.drop)  # all at once, or some of them
            contexts.append(self._kind(name)(raw.get(name), n, drop))
        return Context.merge(contexts).float()

    def null(self, n: int) -> Context:
        """Return the context of n samples without a condition."""
        context: Context = self({}, n)
        return context

    def _kind(self, name: str) -> Condition:
        kind = self.kinds[name]
        assert isinstance(kind, Condition)
        return kind


def one_or_each(value: Any, n: int, single: bool, thing: str, read: Callable[[Any], Tensor]) -> Tensor:
    """Read values `(n, ...)`: a single one for all samples, else one for each.

    `thing` is the name of the values in the UsageError for a wrong number of them.
    """
    values: Sequence[Any] = [value] if single else list(value)
    if not single and len(values) != n:
        raise UsageError(f"{len(values)} {thing} given for {n} samples: give one, or one for each sample")
    rows = torch.stack([read(v) for v in values])
    return rows.expand(n, *rows.shape[1:]) if single else rows


def where(drop: Tensor | None, null: Tensor, value: Tensor) -> Tensor:
    """Return `value` `(n, ...)`, with `null`, which broadcasts against it, for samples whose condition is dropped."""
    if drop is None:
        return value
    return torch.where(onto(drop, value.device).view(-1, *[1] * (value.ndim - 1)), null.to(value.dtype), value)


def _found(columns: Mapping[str, Any], source: str, name: str) -> Any:
    if columns.get(source) is None:
        raise UsageError(f"these data have no {source} to condition on: leave {name} out")
    return columns[source]
