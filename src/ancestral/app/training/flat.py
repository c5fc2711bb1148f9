"""All parameters of a player as one buffer.

Parameters and their gradients become views of two flat tensors, so that the optimiser, the gradient norm, the moving
average and a checkpoint each are one operation on one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class FlatParameters:
    """parameters: dense tensors of one dtype and device; they keep their shapes and memory layouts as views of `value`."""

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

    @contextmanager
    def holding(self, other: Tensor) -> Iterator[None]:
        """Run with the values of another buffer in place, e.g. the moving average."""
        own = self.value.data.clone()
        self.value.data.copy_(other)
        try:
            yield
        finally:
            self.value.data.copy_(own)


def views(parameters: Iterable[Tensor], flat: Tensor) -> Iterator[Tensor]:
    """The part of a flat buffer that is each parameter's, in its shape and memory layout."""
    offset = 0
    for p in parameters:
        yield flat[offset : offset + p.numel()].as_strided(p.shape, p.stride())
        offset += p.numel()


class PowerEMA:
    """The average of all past parameters with weights proportional to t^gamma (Karras et al. 2024, arXiv:2312.02696, eq. 1).

        average <- beta average + (1 - beta) value,    beta = (1 - 1/t)^(gamma + 1)

    Its width is a fixed fraction of the training time, so it fits any budget and needs no warm-up: at t = 1 it is the
    value itself. std: that relative width, sigma_rel in the paper; 0.1 gives gamma = 6.94.
    """

    def __init__(self, value: Tensor, std: float = 0.1):
        self.average = value.detach().clone()
        self.gamma = gamma_of(std)
        self.t = 0

    def update(self, value: Tensor) -> None:
        self.t += 1
        self.average.lerp_(value.detach(), 1 - (1 - 1 / self.t) ** (self.gamma + 1))


def gamma_of(std: float) -> float:
    """Gamma > -1 with sigma_rel = sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))) (Karras et al. 2024, eq. 123),
    by bisection.
    """
    low, high = 0.0, 1e6
    for _ in range(200):
        gamma = (low + high) / 2
        wide = math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) > std
        low, high = (gamma, high) if wide else (low, gamma)
    return low
