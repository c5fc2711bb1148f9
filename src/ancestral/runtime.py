"""The machine: device, precision, memory layout, threads, compilation. No other module depends on these."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import psutil
import torch
from torch import nn

from ancestral.errors import UsageError

Precision = Literal["auto", "fp32", "bf16"]
SMALL = 300_000  # parameters


@dataclass(frozen=True)
class Runtime:
    """The device and the arithmetic of computations.

    Parameters stay float32, and `bf16` runs the networks in autocast. `threads` is the number of CPU threads; None does not
    change it.
    """

    device: torch.device
    bf16: bool
    threads: int | None = None

    @classmethod
    def choose(cls, device: str = "auto", precision: Precision = "auto", *, parameters: int, float64: bool = False) -> Runtime:
        """Choose the best runtime for a model with this number of parameters, or the given device and precision.

        Small models run in float32 and on one thread, which is the fastest for them.

        Args:
            device: auto, or the name of a device.
            precision: auto, or the arithmetic of the networks.
            parameters: the number of the model's parameters.
            float64: whether the model holds float64 numbers (`holds_float64`), which MPS does not have.

        Raises:
            UsageError: if the device is not available, or lacks float64 and the model needs it.
        """
        chosen = _device(device)
        if float64 and chosen.type == "mps":
            if device != "auto":
                raise UsageError(
                    "the data are numbers that only float64 can tell apart, and the device mps has no float64: choose cpu, or "
                    "subtract a constant from the data so that they lie near 0"
                )
            chosen = torch.device("cpu")
        small = parameters < SMALL
        bf16 = _fast_bf16(chosen) and not small if precision == "auto" else precision == "bf16"
        if chosen.type == "cuda":
            torch.set_float32_matmul_precision("high" if bf16 else "highest")
            torch.backends.cudnn.allow_tf32 = bf16
        return cls(chosen, bf16, threads=1 if small and chosen.type == "cpu" else None)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which networks run: bfloat16 arithmetic if chosen, else an empty context."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def place(self, model: nn.Module) -> nn.Module:
        """Move the model to the device, with convolutions in channels-last, which is fast on CPU and CUDA."""
        model.to(self.device)
        return model.to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]  # missing in the stubs

    def seed(self, seed: int) -> None:
        """Seed the device's default generator, from which dropout draws."""
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)
        else:  # torch.manual_seed seeds all kinds of devices, which takes as long as a step of a small network
            torch.default_generator.manual_seed(seed)

    def memory(self) -> int:
        """Return the bytes in use: those of the device's allocator on CUDA, otherwise those of the process."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return int(psutil.Process().memory_info().rss)

    @contextmanager
    def threaded(self) -> Iterator[None]:
        """Open a context with the chosen number of threads. If OMP_NUM_THREADS is set, it is used instead."""
        before = torch.get_num_threads()
        if self.threads is not None and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def __str__(self) -> str:
        threads = f", {self.threads or torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        return f"{self.device}, {'bf16' if self.bf16 else 'fp32'}{threads}".replace(" 1 threads", " 1 thread")


def holds_float64(model: nn.Module) -> bool:
    """Return whether a model has float64 parameters or buffers, as for data of large numbers that lie close together."""
    return any(t.dtype == torch.float64 for t in (*model.parameters(), *model.buffers()))


def _device(name: str) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    kind, _, index = name.partition(":")
    count = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind, 0)
    exists = not index or (index.isdigit() and int(index) < count)
    if not available.get(kind, False) or not exists:
        there = ", ".join(kind for kind, present in available.items() if present)
        raise UsageError(f"the device {name!r} is not available here: choose {there}, or leave the device out")
    return torch.device(name)


def _fast_bf16(device: torch.device) -> bool:
    """Return whether bfloat16 arithmetic is native. Emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))
    return False
