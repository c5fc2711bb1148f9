"""One kind of condition, and the `Conditioner` that holds those of a model."""

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


class Condition(nn.Module):
    """One kind of condition: from what the data hold or people write to raw tensors, and from these to a `Context`.

    A raw tensor has a row for each sample and is as cheap to keep as the data: labels, token ids, boxes, a map. It is made
    once, by `column` or, for kinds that follow from the sample itself, by `derive`. `forward` is what is learned.
    source: the column of the data it is made from; None for kinds that are derived. widths: of the context it gives.
    """

    source: ClassVar[str | None] = None
    parts: int = 1  # what can be unknown on its own, such as one number of several; training drops each on its own, too
    mirrored: ClassVar[str | None] = None  # what a person should be told where images are mirrored
    notes: tuple[str, ...] = ()  # and of what was fitted
    widths: ContextShape

    @property
    def language(self) -> tuple[Any, ...]:
        """What gives a raw tensor its meaning: equal for two conditions that read the same one alike."""
        return (type(self),)

    def fit(self, values: Any) -> None:
        """Learn what has no gradient, such as a vocabulary, from the training split's column."""

    def column(self, values: Any) -> Tensor:
        """The raw tensor of a whole column of the data."""
        raise NotImplementedError

    def derive(self, x: Tensor, noise: Noise) -> Tensor:
        """The raw tensor that follows from samples x `(n, *shape)` in the units of the data."""
        raise NotImplementedError

    def parse(self, value: Any, n: int) -> Tensor:
        """The raw tensor of n samples from what a caller gave: one value for all, or n values; raw tensors are returned as
        they are. Raises UsageError for what has no meaning.
        """
        raise NotImplementedError

    def mirror(self, raw: Tensor) -> Tensor:
        """The raw tensor for samples that are mirrored left to right."""
        return raw

    def put_back(self, x: Tensor, raw: Tensor) -> Tensor:
        """Samples x `(n, *shape)` in the units of the data, with the parts of them that the raw tensor states exactly."""
        return x

    def shown(self, raw: Tensor) -> Rendering:
        """What the raw tensor of one sample asks for, as a person can see it."""
        return Rendering()

    def forward(self, raw: Tensor | None, n: int, drop: Tensor | None = None) -> Context:
        """raw: of n samples, or None where nothing is asked; drop: `(n,)` bool, True where the null takes its place, or
        `(n, parts)` where `parts` is more than 1.
        """
        raise NotImplementedError


@configurable
class Conditioner(nn.Module):
    """The conditions of one model, by name; `drop` is the rate at which training replaces each by its null."""

    def __init__(self, kinds: Mapping[str, Condition], drop: float = 0.1):
        super().__init__()
        self.kinds = nn.ModuleDict(kinds)
        self.drop = drop

    def reads_like(self, other: Conditioner) -> bool:
        """Whether both have the same kinds, which give the same meaning to raw tensors."""
        mine, theirs = ({name: c._kind(name).language for name in c.kinds} for c in (self, other))
        return mine == theirs

    @property
    def widths(self) -> ContextShape:
        """Of the context, from which networks are built."""
        return ContextShape.merge([self._kind(name).widths for name in self.kinds])

    @property
    def sources(self) -> set[str]:
        """The columns of the data that the kinds are made from."""
        return {source for name in self.kinds if (source := self._kind(name).source) is not None}

    def fit(self, columns: Mapping[str, Any]) -> None:
        """Let every kind learn what has no gradient from the training split's columns."""
        for name in self.kinds:
            if (source := self._kind(name).source) is not None:
                self._kind(name).fit(_found(columns, source, name))

    def notes(self, mirrored: bool) -> tuple[str, ...]:
        """What a person should be told before training. mirrored: whether images are, left to right."""
        kinds = [self._kind(name) for name in self.kinds]
        warnings = [kind.mirrored for kind in kinds if mirrored and kind.mirrored]
        return (*(note for kind in kinds for note in kind.notes), *warnings)

    def columns(self, columns: Mapping[str, Any]) -> dict[str, Tensor]:
        """The raw tensors of a split, by kind. Raises UsageError for a column that the data do not have."""
        sources = {name: source for name in self.kinds if (source := self._kind(name).source) is not None}
        return {name: self._kind(name).column(_found(columns, source, name)) for name, source in sources.items()}

    def derive(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        """The raw tensors that follow from samples in the units of the data."""
        return {name: self._kind(name).derive(x, noise) for name in self.kinds if self._kind(name).source is None}

    def mirror(self, raw: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """The raw tensors where the samples of `rows`, bool `(n,)`, are mirrored left to right."""
        mirrored = dict(raw)
        for name, value in raw.items():
            if name in self.kinds:
                mirrored[name] = torch.where(rows.view(-1, *[1] * (value.ndim - 1)), self._kind(name).mirror(value), value)
        return mirrored

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

    def put_back(self, x: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        """Samples x `(n, *shape)` in the units of the data, with the parts of them that their conditions state exactly."""
        for name, value in raw.items():
            x = self._kind(name).put_back(x, value)
        return x

    def context(self, condition: Mapping[str, Any] | Context | None, n: int) -> Context:
        """The context of n samples from what a caller wrote (`parse`); a context is itself."""
        if isinstance(condition, Context):
            return condition
        context: Context = self(self.parse(condition, n), n)
        return context

    def shown(self, raw: Mapping[str, Tensor], texts: Sequence[str | None] | None = None) -> list[Rendering]:
        """What is asked of each sample, as a person can see it; `texts` are those that the raw ones were made from."""
        parts = [[self._kind(name).shown(row) for row in rows.cpu()] for name, rows in raw.items()]
        if texts is not None and "text" in raw:
            parts.append([Rendering(words=text or "") for text in texts])
        return [Rendering.merge(of_one) for of_one in zip(*parts, strict=True)]

    def forward(self, raw: Mapping[str, Tensor], n: int, noise: Noise | None = None) -> Context:
        """The context of n samples; absent kinds take their null. With `noise`, training's dropout, per sample and kind."""
        contexts = []
        for name in self.kinds:
            drop = noise.uniform() < self.drop if noise is not None and self.drop > 0 else None
            if noise is not None and drop is not None and (parts := self._kind(name).parts) > 1:
                drop = drop[:, None] | (noise.uniform((parts,)) < self.drop)  # all at once, or some of them
            contexts.append(self._kind(name)(raw.get(name), n, drop))
        return Context.merge(contexts).float()

    def null(self, n: int) -> Context:
        """The context of n samples of which nothing is asked."""
        context: Context = self({}, n)
        return context

    def _kind(self, name: str) -> Condition:
        kind = self.kinds[name]
        assert isinstance(kind, Condition)
        return kind


def one_or_each(value: Any, n: int, single: bool, thing: str, read: Callable[[Any], Tensor]) -> Tensor:
    """Read values `(n, ...)`: one for all samples where it is a single one, else one for each.

    thing: names the values in the UsageError that is raised for a wrong number of them.
    """
    values: Sequence[Any] = [value] if single else list(value)
    if not single and len(values) != n:
        raise UsageError(f"{len(values)} {thing} given for {n} samples: give one, or one for each sample")
    rows = torch.stack([read(v) for v in values])
    return rows.expand(n, *rows.shape[1:]) if single else rows


def where(drop: Tensor | None, null: Tensor, value: Tensor) -> Tensor:
    """`value` `(n, ...)`, and `null`, which broadcasts against it, where a sample's condition is dropped."""
    if drop is None:
        return value
    return torch.where(drop.to(value.device).view(-1, *[1] * (value.ndim - 1)), null.to(value.dtype), value)


def _found(columns: Mapping[str, Any], source: str, name: str) -> Any:
    if columns.get(source) is None:
        raise UsageError(f"these data have no {source} to condition on: leave {name} out")
    return columns[source]
