"""Copies to a device for which the program does not wait."""

from __future__ import annotations

import torch
from torch import Tensor


def onto(value: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor on a device. With CUDA the program waits neither for the copy nor for earlier work of the device.

    CUDA copies in the background only from pinned, contiguous memory. From other memory it first waits until the device has
    done all its work. torch reuses pinned memory, and not before its copy is done.
    """
    device = torch.device(device)
    if device.type == "cuda" and value.device.type == "cpu":
        value = value.contiguous().pin_memory()
    return value.to(device, non_blocking=device.type not in ("cpu", "mps"))  # MPS would read memory that is used again
