"""The one protocol that the families obey."""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ancestral.batch import Batch
from ancestral.conditioning import Conditioner
from ancestral.errors import UsageError
from ancestral.noise import Noise, SampleNoise
from ancestral.solvers import State
from ancestral.suggest import unknown


@dataclass(frozen=True)
class Player:
    """Whoever takes turns in training: parameters with an optimiser of their own, updated every so many steps."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    every: int = 1


@runtime_checkable
class Trainable(Protocol):
    """An edit that a model can also be trained for, by the condition of that name."""

    condition: str

    def raw(self, n: int, shape: Sequence[int]) -> Tensor:
        """The condition's raw tensor for n samples."""


@runtime_checkable
class PerSample(Protocol):
    """An option with something of its own for each sample."""

    def part(self, rows: slice) -> PerSample:
        """The option for some of the samples."""


class Standardize(nn.Module):
    """Between the units of the data and those of the models, where each channel has mean 0 and standard deviation 1.

    mean, std: one number a channel. low, high: the range of the data, or None where it is unbounded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: Sequence[int], mean: Sequence[float], std: Sequence[float], bounds: tuple[float, float] | None):
        super().__init__()
        per_channel = (len(mean), *[1] * (len(shape) - 1))
        self.register_buffer("mean", torch.tensor(mean).view(per_channel), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(per_channel), persistent=False)
        self.bounds = bounds

    def normalize(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def denormalize(self, z: Tensor) -> Tensor:
        x = z * self.std + self.mean
        return x if self.bounds is None else x.clamp(*self.bounds)

    def limits(self) -> tuple[Tensor, Tensor] | None:
        """The range in the models' units, `(c, 1, ..., 1)` each."""
        if self.bounds is None:
            return None
        low, high = self.bounds
        return (low - self.mean) / self.std, (high - self.mean) / self.std


class GenerativeModel(nn.Module):
    """A model that draws from a prior it knows and pushes the draw through learned conditionals until it is data.

    Subclasses define `loss` and `sample_path`. shape: of one sample. standardize: to and from the units of the data.
    """

    # walk(noise, context, **how): the family's way from prior to data, in the models' units
    sample_path: Callable[..., Iterator[State]]
    notes: tuple[str, ...] = ()  # what a person should be told before training

    def __init__(self, shape: Sequence[int], standardize: Standardize, conditioner: Conditioner):
        super().__init__()
        self.shape = tuple(shape)
        self.standardize = standardize
        self.conditioner = conditioner
        self.precision: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def dimensions(self) -> int:
        """Numbers in one sample."""
        return math.prod(self.shape)

    @property
    def loss_unit(self) -> int:
        """What a loss is divided by when it is minimised and shown: the dimensions, over which losses in nats are sums."""
        return self.dimensions

    @property
    def device(self) -> torch.device:
        return self.standardize.mean.device

    def players(self) -> tuple[Player, ...]:
        """Who is trained; one player unless the family is a game of more."""
        return (Player("model", tuple(self.parameters())),)

    def loss(self, batch: Batch, player: str, noise: Noise) -> dict[str, Tensor]:
        """Per-sample terms `(n,)`, summed over dimensions; "total" is what the player minimises. None: it sits out."""
        raise NotImplementedError

    def trajectory(
        self,
        n: int,
        condition: Mapping[str, Any] | None = None,
        *,
        seeds: int | Sequence[int] = 0,
        **how: Any,
    ) -> Iterator[State]:
        """The walk of n samples from prior to data, step by step; `State.x` is in the units of the data.

        seeds: one integer a sample, or one from which they are counted (`seeds_from`); sample i depends on its seed alone.
        condition: e.g. `{"class": 7}` or a value for each sample. how: options of the family, such as `steps` and `solver`.
        The last state is the sample: what its condition states exactly, such as the known pixels of `inpaint`, is kept.
        Raises UsageError for a condition, option or value that the model does not know.
        """
        condition, how = self.edited(n, condition, how)
        raw = self.conditioner.parse(condition, n)
        for state in self._states(n, raw, seeds, **how):
            yield replace(state, x=self._finished(state.x, raw) if state.done >= state.total else self.shown(state.x))

    def batches(
        self,
        n: int,
        condition: Mapping[str, Any] | None = None,
        *,
        seeds: int | Sequence[int] = 0,
        batch: int | None = None,
        **how: Any,
    ) -> Iterator[Iterator[State]]:
        """The trajectories of n samples, at most `batch` at a time (None: as many as are fast). Options as in `trajectory`."""
        condition, how = self.edited(n, condition, how)
        for n_part, raw, chosen, options in self._parts(n, condition, seeds, batch, how):
            yield self.trajectory(n_part, raw, seeds=chosen, **options)

    def sample(
        self,
        n: int,
        condition: Mapping[str, Any] | None = None,
        *,
        seeds: int | Sequence[int] = 0,
        batch: int | None = None,
        **how: Any,
    ) -> Tensor:
        """N samples `(n, *shape)`, float32, in the units of the data. Options as in `trajectory` and `batches`."""
        results = []
        condition, how = self.edited(n, condition, how)
        for n_part, raw, chosen, options in self._parts(n, condition, seeds, batch, how):
            last = deque(self._states(n_part, raw, chosen, **options), maxlen=1).pop()
            results.append(self._finished(last.x, raw))
        return torch.cat(results)

    def edited(
        self, n: int, condition: Mapping[str, Any] | None, how: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Condition and options of n samples, with an edit for which the model was trained asked for as a condition."""
        condition, how = dict(condition or {}), dict(how)
        edit = how.get("edit")
        if isinstance(edit, Trainable) and edit.condition in self.conditioner.kinds and edit.condition not in condition:
            condition[edit.condition] = edit.raw(n, self.shape)
            del how["edit"]
        return condition, how

    def _finished(self, x: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        """Samples in the units of the data, with what their conditions state exactly put back."""
        return self.conditioner.put_back(self.shown(x), raw)

    def shown(self, x: Tensor) -> Tensor:
        """Where the walk stands, in the units of the data, float32."""
        return self.standardize.denormalize(x.float())

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options of `sample_path`."""
        return tuple(name for name in inspect.signature(self.sample_path).parameters if name not in ("noise", "context"))

    def _parts(
        self,
        n: int,
        condition: Mapping[str, Any] | None,
        seeds: int | Sequence[int],
        batch: int | None,
        how: Mapping[str, Any],
    ) -> Iterator[tuple[int, dict[str, Tensor], list[int], dict[str, Any]]]:
        """The samples as several (number, conditions, seeds, options) of at most `batch` each."""
        chosen = _seeds(seeds, n)
        if batch is not None and batch < 1:
            raise UsageError(f"samples are drawn at least one at a time; got batch={batch}")
        raw = self.conditioner.parse(condition, n)
        size = batch or max(64, 2**16 // self.dimensions)
        for start in range(0, n, size):
            part = slice(start, start + size)
            options = {name: v.part(part) if isinstance(v, PerSample) else v for name, v in how.items()}
            yield len(chosen[part]), {name: v[part] for name, v in raw.items()}, chosen[part], options

    def _states(self, n: int, condition: Mapping[str, Any] | None, seeds: int | Sequence[int], **how: Any) -> Iterator[State]:
        """The walk in the models' units. Raises UsageError for an option that the family's `sample_path` does not have."""
        for name in how:
            if name not in self.options:
                raise UsageError(unknown("option of this model", name, self.options))
        chosen = _seeds(seeds, n)
        raw = self.conditioner.parse(condition, n)
        with self.inference():
            context = self.conditioner(raw, n)
            states = self.sample_path(SampleNoise(chosen, self.device), context, **self.resolve(raw, n, how))
        while True:
            with self.inference():  # entered anew for each step, so that the caller's code runs outside
                state = next(states, None)
            if state is None:
                return
            yield state

    def resolve(self, raw: Mapping[str, Tensor], n: int, how: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options of `sample_path` for n samples with these raw conditions, from what a caller wrote."""
        return how

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Run without gradients, in evaluation mode and in the precision of the machine."""
        training = self.training
        if training:
            self.eval()
        try:
            with torch.no_grad(), self.precision():
                yield
        finally:
            if training:
                self.train()


def _seeds(seeds: int | Sequence[int], n: int) -> list[int]:
    if n < 1:
        raise UsageError(f"ask for at least one sample; got n={n}")
    chosen = seeds_from(seeds, n) if isinstance(seeds, int) else list(seeds)
    if len(chosen) != n:
        raise UsageError(f"{len(chosen)} seeds given for {n} samples: give one for each")
    return chosen


def seeds_from(seed: int, n: int) -> list[int]:
    """The n seeds seed * 2^32 + i, which no two `seed`s share. Raises UsageError unless 0 <= seed < 2^32."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"a seed is a whole number from 0 to 2^32 - 1; got {seed}")
    return [(seed << 32) + i for i in range(n)]
