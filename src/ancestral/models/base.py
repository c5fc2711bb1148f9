"""The base class of all families.

Gradients follow one rule. Methods that map one tensor to another, `encode`, `decode`, `reconstruct`, `denoise`, `score`,
`critic`, are plain differentiable functions: they run in evaluation mode, and autograd records them, in the parameters and in
the input, if the caller has gradients enabled. Methods that draw or measure, `sample`, `trajectory`, `batches`, `log_prob`,
`diagnose`, `fit_after`, run without gradients. Training differentiates `loss` and `losses`: `losses` is the family's
mathematics, for a batch with conditions as tensors and given noise; `loss` is its form for the user's own training loops.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ancestral import weights
from ancestral.batch import Batch
from ancestral.conditioning import Conditioner
from ancestral.configuration import encode, optional_in_state
from ancestral.errors import UsageError
from ancestral.noise import Noise, SampleNoise, StreamNoise
from ancestral.solvers import State
from ancestral.suggest import unknown
from ancestral.units import dtype_of
from ancestral.version import __version__
from ancestral.weights import FORMAT


@dataclass(frozen=True)
class Player:
    """A set of parameters with its own optimiser, updated at every n-th training step."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    every: int = 1


@runtime_checkable
class Trainable(Protocol):
    """An edit for which a model can also be trained, by the condition of the same name."""

    condition: str

    def raw(self, n: int, shape: Sequence[int]) -> Tensor:
        """Return the condition's raw tensor for n samples."""


@runtime_checkable
class PerSample(Protocol):
    """An option with a value for each sample."""

    def part(self, rows: slice) -> PerSample:
        """Return the option for some of the samples."""


class Standardize(nn.Module):
    """Conversion between the units of the data and those of the model, in which each channel has mean 0 and deviation 1.

        z = (x - mean) / std,      x = mean + std z, clamped to the bounds

    Data of large numbers close together need float64 (`dtype_of`): then `mean`, `std` and x are float64, and z is float32.

    `mean` and `std` are part of the `state_dict`, so that weights keep their units. A `state_dict` without them (format 1) can
    also be loaded; then those of the constructor remain.

    Args:
        shape: of one sample `(c, *space)`.
        mean, std: one number for each of the c channels, or one for all.
        bounds: the range of the data, or None where it is unbounded.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        bounds: tuple[float, float] | None = None,
    ):
        super().__init__()
        per_channel = (shape[0], *[1] * (len(shape) - 1))
        for name, value in (("mean", mean), ("std", std)):
            numbers = torch.as_tensor(value, dtype=torch.float64).detach().cpu().flatten()
            if len(numbers) not in (1, shape[0]):
                raise UsageError(f"{name} has {len(numbers)} numbers and a sample {shape[0]} channels: give one number each")
            self.register_buffer(name, numbers.expand(shape[0]).clone().view(per_channel))
        self.to(dtype_of(self.mean, self.std))
        self.bounds = None if bounds is None else (float(bounds[0]), float(bounds[1]))
        optional_in_state(self, "mean", "std")

    @property
    def units(self) -> dict[str, Any]:
        """Return the arguments `mean`, `std` and `bounds` of a model in the same units."""
        return {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist(), "bounds": self.bounds}

    def normalize(self, x: Tensor) -> Tensor:
        z = (x - self.mean) / self.std
        return z.float() if self.mean.dtype == torch.float64 else z

    def denormalize(self, z: Tensor) -> Tensor:
        x = z * self.std + self.mean
        return x if self.bounds is None else x.clamp(*self.bounds)

    def limits(self) -> tuple[Tensor, Tensor] | None:
        """Return the range in model units, `(c, 1, ..., 1)` each, or None if it is unbounded."""
        if self.bounds is None:
            return None
        low, high = self.bounds
        return (low - self.mean) / self.std, (high - self.mean) / self.std


class GenerativeModel(nn.Module):
    """A model that draws from a known prior and turns the draw into data by learned conditional distributions.

    Subclasses define `losses` and `sample_path`.

    Args:
        shape: of one sample `(c, *space)`, or `(d,)`.
        mean, std, bounds: the units of the data, see `Standardize`.
        conditioner: encodes the conditions; None: the model has none.
    """

    # sample_path(noise, context, **how): the family's path from prior to data, in model units
    sample_path: Callable[..., Iterator[State]]
    notes: tuple[str, ...] = ()  # notes for the user before training
    family: ClassVar[str] = ""  # the name of the family in configurations
    least_steps: ClassVar[int] = 1000  # of training, with fewer of which samples are rough
    reads_data: ClassVar[bool] = True  # whether the losses use samples, and not only their conditions

    def __init__(
        self,
        shape: Sequence[int],
        *,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        bounds: tuple[float, float] | None = None,
        conditioner: Conditioner | None = None,
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.standardize = Standardize(shape, mean, std, bounds)
        self.conditioner = Conditioner({}) if conditioner is None else conditioner
        self.precision: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def dimensions(self) -> int:
        """The number of dimensions of one sample."""
        return math.prod(self.shape)

    @property
    def loss_unit(self) -> int:
        """The divisor of a loss when it is minimised and shown: the dimensions, because losses in nats are sums over them."""
        return self.dimensions

    @property
    def device(self) -> torch.device:
        return self.standardize.mean.device

    def config(self) -> dict[str, Any]:
        """Return the description of the model without its weights, as JSON: family, shape, units, network and all settings.

        A network whose class is not ancestral's is written only by name, as `{"foreign": CLASS}`.

        Raises:
            UsageError: if a configuration cannot hold a setting.
        """
        found: dict[str, Any] = encode(self)
        if "class" not in found:
            raise UsageError(
                f"the class {type(self).__name__} records no configuration: decorate it with @ancestral.configurable to save it"
            )
        units: dict[str, Any] = encode(self.standardize.units)["mapping"]
        return {"format": FORMAT, "version": __version__, "family": self.family} | found | {"shape": list(self.shape)} | units

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder as `config.json` and `model.safetensors`, for `ancestral.load(folder)`.

        Both files have checksums and are written atomically.

        Raises:
            AncestralError: if a weight is not finite, or the folder cannot be written.
            UsageError: if a configuration cannot hold a setting.
        """
        weights.write(Path(folder), self.config(), self.state_dict())

    def players(self) -> tuple[Player, ...]:
        """Return the players that are trained. Most families have one."""
        return (Player("model", tuple(self.parameters())),)

    def networks(self) -> tuple[nn.Module, ...]:
        """Return the modules that hold most parameters and are only called as a whole, so that they can be sharded."""
        return ()

    def loss(
        self, x: Tensor, condition: Mapping[str, Any] | None = None, seed: int = 0, *, player: str | None = None
    ) -> dict[str, Tensor]:
        """Return the loss of samples, for the user's own training loop:

            model.loss(x, {"class": labels}, seed=step)["total"].mean().backward()

        Args:
            x: samples `(n, *shape)` in the units of the data.
            condition: as in `sample`: a value for all samples, or one for each. Kinds that are derived from x need no value.
            seed: the seed of the noise. The same seed gives the same loss, so give another one at every step.
            player: the player, for a model with several (`players`). Each minimises its own loss over its own parameters.

        Returns:
            The terms by name, `(n,)` each, in nats and summed over dimensions. "total" is what is minimised.

        Raises:
            UsageError: if samples have another shape, a condition is unknown, or the player is missing or unknown.
        """
        self._fits(x)
        names = [p.name for p in self.players()]
        if player is None and len(names) != 1:
            raise UsageError(f"this model has several players, {' and '.join(names)}: choose one with player=")
        if player is not None and player not in names:
            raise UsageError(unknown("player", player, names))
        noise = StreamNoise(len(x), seed, 0, x.device)
        return self.losses(Batch(x, self._raw(x, condition, noise)), player or names[0], noise)

    def _fits(self, x: Tensor) -> None:
        """Raise UsageError if samples have another shape than those of the model."""
        if tuple(x.shape[1:]) != self.shape:
            raise UsageError(f"samples of this model have shape {self.shape}, and x is {tuple(x.shape)}: give (n, *shape)")

    def _raw(self, x: Tensor, condition: Mapping[str, Any] | None, noise: Noise) -> dict[str, Tensor]:
        """Return the raw conditions of training samples: those that the caller gave, and those derived from the samples."""
        raw = {name: value.to(x.device) for name, value in self.conditioner.parse(condition, len(x)).items()}
        return self.conditioner.derive(x, noise) | raw

    @property
    def compilable(self) -> tuple[nn.Module, ...]:
        """The networks that `compile` compiles. None of them is differentiated twice, which compiled networks do not allow."""
        return self.networks()

    def compile(self, *args: Any, **how: Any) -> None:
        """Compile the model's networks in place by `torch.compile`, whose options are `how`. Names of parameters stay."""
        for network in self.compilable:
            network.compile(*args, **how)

    def losses(self, batch: Batch, player: str, noise: Noise) -> dict[str, Tensor]:
        """Return per-sample terms `(n,)`, summed over dimensions. The player minimises "total". {}: it skips this step."""
        raise NotImplementedError

    def trajectory(
        self,
        n: int,
        condition: Mapping[str, Any] | None = None,
        *,
        seeds: int | Sequence[int] = 0,
        **how: Any,
    ) -> Iterator[State]:
        """Yield the states of n samples from prior to data, step by step. `State.x` is in the units of the data.

        The last state is the sample. Parts that its condition gives exactly, such as the known pixels of `inpaint`, are kept.

        Args:
            n: the number of samples.
            condition: e.g. `{"class": 7}`, or a value for each sample.
            seeds: one integer per sample, or the first of consecutive ones (`seeds_from`). Sample i depends only on its seed.
            **how: options of the family, such as `steps` and `solver`.

        Raises:
            UsageError: if the model does not know a condition, option or value.
        """
        condition, how = self.edited(n, condition, how)
        raw = self.conditioner.parse(condition, n)
        for state in self.states(n, raw, seeds=seeds, **how):
            with self.inference():
                x = self.finished(state.x, raw) if state.done >= state.total else self.to_data(state.x)
            yield replace(state, x=x)

    def batches(
        self,
        n: int,
        condition: Mapping[str, Any] | None = None,
        *,
        seeds: int | Sequence[int] = 0,
        batch: int | None = None,
        **how: Any,
    ) -> Iterator[Iterator[State]]:
        """Yield the trajectories of n samples, at most `batch` at a time (None: a fast number). Options as in `trajectory`."""
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
        """Draw n samples `(n, *shape)`, float32, in the units of the data. Options as in `trajectory` and `batches`."""
        results = []
        condition, how = self.edited(n, condition, how)
        for n_part, raw, chosen, options in self._parts(n, condition, seeds, batch, how):
            last = deque(self.states(n_part, raw, seeds=chosen, **options), maxlen=1).pop()
            results.append(self.finished(last.x, raw))
        return torch.cat(results)

    def edited(
        self, n: int, condition: Mapping[str, Any] | None, how: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Return condition and options of n samples. An edit for which the model was trained becomes a condition."""
        condition, how = dict(condition or {}), dict(how)
        edit = how.get("edit")
        if isinstance(edit, Trainable) and edit.condition in self.conditioner.kinds and edit.condition not in condition:
            condition[edit.condition] = edit.raw(n, self.shape)
            del how["edit"]
        return condition, how

    def finished(self, x: Tensor, raw: Mapping[str, Tensor]) -> Tensor:
        """Return the samples of the last of `states` in the units of the data, with the parts that the conditions give exactly.

        raw: the conditions, as `Conditioner.parse` returns them.
        """
        with self.inference():
            return self.conditioner.put_back(self.to_data(x), raw)

    def to_data(self, x: Tensor) -> Tensor:
        """Convert a state of the path to the units of the data, float32."""
        return self.standardize.denormalize(x.float())

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options of `sample_path`."""
        return tuple(name for name in inspect.signature(self.sample_path).parameters if name not in ("noise", "context"))

    def check_options(self, names: Iterable[str]) -> None:
        """Raise UsageError if one of the names is no option of `sample_path`."""
        for name in names:
            if name not in self.options:
                raise UsageError(unknown("option of this model", name, self.options))

    @property
    def fast_batch(self) -> int:
        """The number of samples that `sample` computes at a time if no number is given."""
        return max(64, 2**16 // self.dimensions)

    def _parts(
        self,
        n: int,
        condition: Mapping[str, Any] | None,
        seeds: int | Sequence[int],
        batch: int | None,
        how: Mapping[str, Any],
    ) -> Iterator[tuple[int, dict[str, Tensor], list[int], dict[str, Any]]]:
        """Split the samples into parts of at most `batch` samples: (number, conditions, seeds, options)."""
        chosen = _seeds(seeds, n)
        if batch is not None and batch < 1:
            raise UsageError(f"samples are drawn at least one at a time; got batch={batch}")
        raw = self.conditioner.parse(condition, n)
        size = batch or self.fast_batch
        for start in range(0, n, size):
            part = slice(start, start + size)
            yield len(chosen[part]), {name: v[part] for name, v in raw.items()}, chosen[part], part_of(how, part)

    def states(
        self, n: int, condition: Mapping[str, Any] | None = None, *, seeds: int | Sequence[int] = 0, **how: Any
    ) -> Iterator[State]:
        """Yield the states of `trajectory` in model units, so that a latent model decodes only those that are shown.

        `finished` converts the last of them to the units of the data, `to_data` any. The options are those of `sample_path`.

        Raises:
            UsageError: for an option that `sample_path` does not have, and as `trajectory`.
        """
        self.check_options(how)
        chosen = _seeds(seeds, n)
        raw = self.conditioner.parse(condition, n)
        self.conditioner.check_given(raw)
        with self.inference():
            context = self.conditioner(raw, n)
            states = self.sample_path(SampleNoise(chosen, self.device), context, **self.resolve(raw, n, how))
        while True:
            with self.inference():  # entered for each step, so that the caller's code runs outside
                state = next(states, None)
            if state is None:
                return
            yield state

    def resolve(self, raw: Mapping[str, Tensor], n: int, how: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the options of `sample_path` for n samples with these raw conditions, from the caller's options."""
        return how

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Open a context without gradients, in evaluation mode and in the model's precision."""
        with torch.no_grad(), self.evaluation():
            yield

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Open a context in evaluation mode and in the model's precision. The caller decides about gradients."""
        training = self.training
        if training:
            self.eval()
        try:
            with self.precision():
                yield
        finally:
            if training:
                self.train()


def part_of(options: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Return the options of `sample` for some of the samples."""
    return {name: value.part(rows) if isinstance(value, PerSample) else value for name, value in options.items()}


def _seeds(seeds: int | Sequence[int], n: int) -> list[int]:
    if n < 1:
        raise UsageError(f"ask for at least one sample; got n={n}")
    chosen = seeds_from(seeds, n) if isinstance(seeds, int) else list(seeds)
    if len(chosen) != n:
        raise UsageError(f"{len(chosen)} seeds given for {n} samples: give one for each")
    return chosen


def seeds_from(seed: int, n: int) -> list[int]:
    """Return the n seeds seed * 2^32 + i, which are different for each `seed`. Raises UsageError unless 0 <= seed < 2^32."""
    if not 0 <= seed < 2**32:
        raise UsageError(f"a seed is a whole number from 0 to 2^32 - 1; got {seed}")
    return [(seed << 32) + i for i in range(n)]
