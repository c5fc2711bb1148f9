"""The training state of a player: its parameters as one buffer, their optimiser and their moving average.

Parameters and their gradients are views of two flat tensors, so that the gradient norm, the moving average and the default
optimiser each are one operation on one tensor. A checkpoint holds them by parameter name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ancestral.app.recipes.recipe import TrainRecipe
from ancestral.models import Player

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class FlatParameters:
    """Parameters as views of one tensor `value`.

    Args:
        parameters: Dense tensors of one dtype and device. They keep their shapes and memory layouts.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self.parameters = list(parameters)
        first = self.parameters[0]
        total = sum(p.numel() for p in self.parameters)
        self.value = nn.Parameter(torch.empty(total, dtype=first.dtype, device=first.device))
        self.value.grad = torch.zeros_like(self.value)
        parts = views(self.parameters, self.value.data), views(self.parameters, self.value.grad)
        for p, value, grad in zip(self.parameters, *parts, strict=True):
            value.copy_(p.data)
            p.data, p.grad = value, grad

    @property
    def grad(self) -> Tensor:
        grad = self.value.grad
        assert grad is not None
        return grad

    def clear(self) -> None:
        """Set the gradient to 0."""
        self.grad.zero_()

    def norm(self) -> Tensor:
        """Return the norm `()` of the gradient."""
        norm: Tensor = torch.linalg.vector_norm(self.grad)
        return norm

    def apply(self) -> None:
        """Give the model the values, after they have changed. Here the model's parameters are views of them."""

    def whole(self, flat: Tensor) -> Iterator[Tensor]:
        """Yield each parameter's part of a buffer like `value`, in the parameter's shape."""
        return views(self.parameters, flat)

    def fill(self, flat: Tensor, tensors: Iterable[Tensor]) -> None:
        """Copy one tensor for each parameter into a buffer like `value`. It is the inverse of `whole`."""
        for part, tensor in zip(views(self.parameters, flat), tensors, strict=True):
            part.copy_(tensor)

    @contextmanager
    def holding(self, other: Tensor) -> Iterator[None]:
        """Replace the values by those of another buffer, e.g. the moving average, inside the context."""
        own = self.value.data.clone()
        self.value.data.copy_(other)
        self.apply()
        try:
            yield
        finally:
            self.value.data.copy_(own)
            self.apply()


def views(parameters: Iterable[Tensor], flat: Tensor) -> Iterator[Tensor]:
    """Yield each parameter's part of a flat buffer, in the parameter's shape and memory layout."""
    offset = 0
    for p in parameters:
        yield flat[offset : offset + p.numel()].as_strided(p.shape, p.stride())
        offset += p.numel()


class PowerEMA:
    """The average of all past parameters with weights proportional to t^gamma (Karras et al. 2024, arXiv:2312.02696, eq. 1).

        average <- beta average + (1 - beta) value,    beta = (1 - 1/t)^(gamma + 1)

    Its width is a fixed fraction of the training time, so it fits any budget. It needs no warm-up: at t = 1 it is the value
    itself.

    Args:
        value: The tensor to average.
        std: The relative width, sigma_rel in the paper. 0.1 gives gamma = 6.94.
    """

    def __init__(self, value: Tensor, std: float = 0.1):
        self.average = value.detach().clone()
        self.gamma = gamma_of(std)
        self.t = 0

    def update(self, value: Tensor, valid: Tensor | None = None) -> None:
        """Add a value. valid: bool `()` on its device; the average stays as it is where it is false."""
        self.t += 1
        weight = 1 - (1 - 1 / self.t) ** (self.gamma + 1)
        self.average.lerp_(value.detach(), weight if valid is None else valid * weight)


class NoAverage(PowerEMA):
    """The parameters themselves, in place of an average."""

    def __init__(self, value: Tensor):
        self.average = value.detach().clone()
        self.t = 0

    def update(self, value: Tensor, valid: Tensor | None = None) -> None:
        self.t += 1
        self.average.copy_(value.detach())


def gamma_of(std: float) -> float:
    """Solve std = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))) (Karras et al. 2024, eq. 123) for gamma by bisection."""
    low, high = 0.0, 1e6
    for _ in range(200):
        gamma = (low + high) / 2
        wide = math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) > std
        low, high = (gamma, high) if wide else (low, gamma)
    return low


class LossScale:
    """The factor of a loss in fp16, with which small gradients do not become 0 (Micikevicius et al. 2018, arXiv:1710.03740).

    It is halved where a gradient overflows, and doubled after GROWTH steps without. A power of 2, it changes no digit.

    Args:
        device: The device, on which it stays: no step reads it.
    """

    GROWTH = 2000

    def __init__(self, device: torch.device):
        self.state = torch.tensor([2.0**16, 0.0], device=device)  # the factor, and the steps since it last changed

    @property
    def value(self) -> Tensor:
        return self.state[0]

    def update(self, finite: Tensor) -> None:
        """Adapt the factor after a step. finite: whether its gradient was, bool `()`."""
        value, steps = self.state.unbind()
        grown = steps + 1 >= self.GROWTH
        new = torch.where(finite, torch.where(grown, 2 * value, value), value / 2)
        self.state.copy_(torch.stack([new, torch.where(finite & ~grown, steps + 1, torch.zeros_like(steps))]))


class PlayerState:
    """The training state of a player: parameters as one buffer, an optimiser, a moving average.

    Args:
        player: The player.
        train: The recipe's settings.
        names: The names of the player's parameters in its model.
        optimizer: A function from parameters to an optimiser of torch's kind with parameter groups. None: fused AdamW with the
            recipe's settings, on the flat buffer.
        flatten: A function from parameters to their buffer.
        scaled: Whether the loss has a scale, for fp16.
    """

    def __init__(
        self,
        player: Player,
        train: TrainRecipe,
        names: list[str],
        optimizer: MakeOptimizer | None = None,
        flatten: Callable[[Iterable[nn.Parameter]], FlatParameters] = FlatParameters,
        *,
        scaled: bool = False,
    ):
        self.player, self.names = player, names
        self.name_of = {id(p): name for p, name in zip(player.parameters, names, strict=True)}
        own = train.players.get(player.name)
        self.lr = train.lr if own is None or own.lr is None else own.lr
        self.turns = 1 if own is None else own.turns
        self.flat = flatten(player.parameters)
        self.ema = NoAverage(self.flat.value) if train.ema is None else PowerEMA(self.flat.value, train.ema)
        if optimizer is not None:
            self.optimizer = optimizer(list(player.parameters))
        else:  # the fused kernel is five times as fast on the CPU, and all devices have it
            self.optimizer = torch.optim.AdamW(
                [self.flat.value],
                lr=self.lr,
                betas=(train.beta1, train.beta2),
                weight_decay=train.weight_decay,
                fused=True,
            )
        self.base = [group["lr"] for group in self.optimizer.param_groups]
        self.scale = LossScale(self.flat.value.device) if scaled else None
        self.guarded = optimizer is None  # the fused kernel can skip a step by itself

    def step(self, factor: float, valid: Tensor | None = None) -> None:
        """Make one update of the parameters. Learning rates are `factor` times those with which the optimiser was made.

        Args:
            factor: The factor of the learning rates.
            valid: bool `()` on the device. Where it is false, nothing changes. Only for `guarded` optimisers.
        """
        for group, lr in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = factor * lr
        if valid is not None:
            self.optimizer.found_inf = (~valid).float()  # type: ignore[attr-defined]  # as torch.amp.GradScaler sets it
        self.optimizer.step()
        self.flat.apply()

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that training needs to continue, by "player/quantity/parameter"."""
        found = self._named("value", self.flat.value.data) | self._named("average", self.ema.average)
        for p in self._optimized():
            for key, value in self.optimizer.state.get(p, {}).items():
                if p is self.flat.value and isinstance(value, Tensor) and value.shape == p.shape:
                    found |= self._named(key, value)
                else:
                    name = "" if p is self.flat.value else f"/{self.name_of[id(p)]}"
                    found[f"{self.player.name}/{key}{name}"] = torch.as_tensor(value)
        if self.scale is not None:
            found[f"{self.player.name}/loss_scale"] = self.scale.state
        return found

    def averages(self) -> dict[str, Tensor]:
        """Return the averaged weights by the names of the parameters."""
        return dict(zip(self.names, self.flat.whole(self.ema.average), strict=True))

    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Restore the state from the result of `tensors`. Raises KeyError if a tensor is missing.

        Args:
            tensors: The tensors by name. Those of other players are ignored.
            updates: The number of updates of the moving average.
        """
        prefix = f"{self.player.name}/"
        own = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        self._fill("value", self.flat.value.data, own)
        self.flat.apply()
        self._fill("average", self.ema.average, own)
        self.ema.t = updates
        scale = own.pop("loss_scale", None)  # of a run in fp16, which may continue in another precision
        if self.scale is not None and scale is not None:
            self.scale.state.copy_(scale)
        keys = list(dict.fromkeys(name.partition("/")[0] for name in own))
        for group in self.optimizer.param_groups:
            on_device = group.get("fused") or group.get("capturable")
            for p in group["params"]:
                state: dict[str, Any] = {}
                for key in keys:
                    if p is self.flat.value and f"{key}/{self.names[0]}" in own:
                        state[key] = torch.empty_like(p.data)
                        self._fill(key, state[key], own)
                    else:
                        name = key if p is self.flat.value else f"{key}/{self.name_of[id(p)]}"
                        if name in own:
                            state[key] = own[name].to(p.device) if own[name].ndim or on_device else own[name]
                if state:
                    self.optimizer.state[p] = state

    def _optimized(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _named(self, key: str, flat: Tensor) -> dict[str, Tensor]:
        parts = self.flat.whole(flat)
        return {f"{self.player.name}/{key}/{name}": part for name, part in zip(self.names, parts, strict=True)}

    def _fill(self, key: str, flat: Tensor, own: dict[str, Tensor]) -> None:
        self.flat.fill(flat, [own.pop(f"{key}/{name}") for name in self.names])
