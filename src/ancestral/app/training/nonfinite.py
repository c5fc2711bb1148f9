"""Search for the tensor that is not finite, to explain why a training fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn


def broken_in_forward(model: nn.Module, loss: Callable[[], object]) -> str:
    """Evaluate `loss` again, and name the first parameter or output of a module that is not finite."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"the parameter {name}"
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not found and not output.isfinite().all():
                found.append(name)

        return look

    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            handle = module.register_forward_hook(watch(name))
            stack.callback(handle.remove)
        loss()
    return f"the output of {found[0]}" if found else "the loss, though every module's output is finite"


def broken_in_backward(model: nn.Module) -> str:
    """Name the first parameter whose gradient is not finite."""
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name}"
    return "the norm of the gradient, though every gradient is finite"
