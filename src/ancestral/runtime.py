"""The one place that knows the machine: device, precision, memory layout, threads, compilation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import psutil
import torch
from torch import nn

from ancestral.errors import UsageError

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Runtime:
    """Where and how the numbers are computed. Parameters stay float32; `bf16` runs the networks in autocast."""

    device: torch.device
    bf16: bool

    @classmethod
    def choose(cls, device: str = "auto", precision: Precision = "auto") -> Runtime:
        """The machine's best, or what is asked for. Raises UsageError for a device that is not there."""
        chosen = _device(device)
        bf16 = _fast_bf16(chosen) if precision == "auto" else precision == "bf16"
        if chosen.type == "cuda":
            torch.set_float32_matmul_precision("high")
        return cls(chosen, bf16)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield

    def place(self, model: nn.Module) -> nn.Module:
        """The model on the device, convolutions in channels-last: what CPU and CUDA kernels are fast in."""
        return model.to(self.device, memory_format=torch.channels_last)

    def memory(self) -> int:
        """Bytes in use: of the device's allocator on CUDA, of the process elsewhere."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return int(psutil.Process().memory_info().rss)

    def __str__(self) -> str:
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        return f"{self.device}, {'bf16' if self.bf16 else 'fp32'}{threads}"


def _device(name: str) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available.get(name.split(":")[0], False):
        there = ", ".join(kind for kind, present in available.items() if present)
        raise UsageError(f"the device {name!r} is not available here: choose {there}, or leave --device out")
    return torch.device(name)


def _fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is native; emulated it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        has = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))
    return False


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Run with n CPU threads (None: as they are). Networks of a few thousand parameters are faster on one."""
    before = torch.get_num_threads()
    if n is not None and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
