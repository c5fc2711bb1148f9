"""The machine: device, precision, memory layout, threads, compilation. No other module depends on these."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from torch import nn

from ancestral.errors import UsageError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

Arithmetic = Literal["fp32", "bf16", "fp16"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Compile = Literal["auto", "off", "on"]
SMALL = 300_000  # parameters
GROUPS, CONTROL = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # the control groups of Linux
# of CUDA and MPS; of CPUs; of Windows; of C++; of oneDNN, which does not say why
FULL = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory",
)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """The device and how it computes.

    Args:
        device: the device.
        precision: the arithmetic of the networks, by autocast. Parameters stay float32.
        threads: the number of CPU threads; None does not change it.
        compiled: whether training compiles the networks.
    """

    device: torch.device
    precision: Arithmetic = "fp32"
    threads: int | None = None
    compiled: bool = False

    @classmethod
    def choose(
        cls,
        device: str = "auto",
        precision: Precision = "auto",
        *,
        parameters: int,
        float64: bool = False,
        compile: Compile = "off",  # the setting's name
        long: bool = False,
    ) -> Runtime:
        """Choose the best runtime for a model with this number of parameters, or the given device and precision.

        - Small models run in float32 and on one thread: their time is that of launches, which autocast and threads add to.
        - bf16 is chosen where it is native, since it has the range of float32. CUDA devices without it (V100, T4) have
          tensor cores for fp16, whose range needs the trainer's loss scale. MPS stays in fp32, where nothing was measured.
        - TF32 is used for what autocast leaves in float32. With precision fp32 it is off, so that results agree with the CPU.
        - Convolutions are channels-last (`place`), the layout of the kernels for CPUs and tensor cores.
        - The optimiser is the fused AdamW on one flat tensor on all devices: one kernel, which skips a step by itself.
        - Attention is the fused kernel on CUDA. It is the plain form elsewhere: on a CPU the fused one is ten times slower.
        - Networks are compiled on CUDA if training is long enough to pay for it. It has not paid on CPUs.

        Args:
            device: auto, or the name of a device.
            precision: auto, or the arithmetic of the networks.
            parameters: the number of the model's parameters.
            float64: whether the model holds float64 numbers (`holds_float64`), which MPS does not have.
            compile: whether training compiles the networks; auto: on CUDA, if it is `long`.
            long: whether training lasts many times as long as a compilation.

        Raises:
            UsageError: if the device is not available, or lacks float64 and the model needs it, or if networks shall be
                compiled and there is no compiler.
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
        arithmetic: Arithmetic = precision if precision != "auto" else "fp32" if small else _fastest(chosen)
        if chosen.type == "cuda":
            torch.set_float32_matmul_precision("highest" if arithmetic == "fp32" else "high")
            torch.backends.cudnn.allow_tf32 = arithmetic != "fp32"
        missing = _missing_compiler(chosen)
        if compile == "on" and missing:
            raise UsageError(f"train.compile=on needs {missing}, which is not here: install it, or set train.compile=off")
        compiled = compile == "on" or (compile == "auto" and chosen.type == "cuda" and long and missing is None)
        return cls(chosen, arithmetic, threads=1 if small and chosen.type == "cpu" else None, compiled=compiled)

    @property
    def bf16(self) -> bool:
        return self.precision == "bf16"

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which networks run: autocast to half precision if chosen, else an empty context."""
        dtype = DTYPES.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

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

    def release(self) -> None:
        """Give memory that the device's allocator holds unused back."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

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
        compiled = ", compiled" if self.compiled else ""
        return f"{self.device}, {self.precision}{threads}{compiled}".replace(" 1 threads", " 1 thread")


def free_memory(device: torch.device | None = None) -> int:
    """Return the bytes that can still be allocated: on a CUDA device, or else in this process.

    For a process they are the least of what the machine has free, and of what is left of the limits of its control group
    (containers, batch systems) and of its address space (ulimit -v).
    """
    if device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = int(psutil.virtual_memory().available)
    free = min([free, *_left_in_control_groups()])
    if resource is not None and (space := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        free = min(free, space - int(psutil.Process().memory_info().vms))
    return max(free, 0)


def _left_in_control_groups() -> Iterator[int]:
    """Yield the bytes that are left in each control group (version 2) of this process that has a limit.

    The cache of files that were not used lately counts as free, because the kernel gives it back.
    """
    with suppress(OSError):
        own = next((line[3:] for line in GROUPS.read_text("utf-8").splitlines() if line.startswith("0::")), "/").strip("/")
        for group in (CONTROL / own, *(CONTROL / own).parents):
            with suppress(OSError, ValueError):  # no such file in the root; "max"
                limit, used = (int((group / f"memory.{name}").read_text("utf-8")) for name in ("max", "current"))
                cached = dict(line.split() for line in (group / "memory.stat").read_text("utf-8").splitlines())["inactive_file"]
                yield limit - used + int(cached)
            if group == CONTROL:
                break


def memory_is_full(error: BaseException) -> bool:
    """Return whether an error says that memory cannot be allocated."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in FULL)


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


def _fastest(device: torch.device) -> Arithmetic:
    """Return the fastest native arithmetic. Emulated, bf16 is slower than float32."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= (7, 0) else "fp32"
    if device.type == "cpu":
        has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16") else "fp32"
    return "fp32"


def _missing_compiler(device: torch.device) -> str | None:
    """Return what torch.compile needs for the device and does not find, or None."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton"
    compilers = ("g++", "clang++") if device.type == "cpu" else ("gcc", "clang", "cc")
    named = os.environ.get("CXX" if device.type == "cpu" else "CC")
    return None if any(shutil.which(name) for name in (named, *compilers) if name) else "a C++ compiler"
