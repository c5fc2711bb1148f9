"""The interface of networks: a module that takes its inputs and, optionally, a `Context` after them."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from ancestral.errors import UsageError


class WithoutContext(nn.Module):
    """A wrapper for a network without a context: it accepts the context as the last input and does not pass it on."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs[:-1])


def taking_context(network: nn.Module, *inputs: str, conditional: bool = False) -> nn.Module:
    """Return the network, callable as network(*inputs, context).

    The signature of `forward` is read once. A parameter after the inputs is the context if it has no default value or is named
    `context`. A network without such a parameter is wrapped in `WithoutContext`.

    Args:
        network: any module.
        inputs: names of its inputs, e.g. "z", "logsnr".
        conditional: whether the model has conditions, so that the network must take a context.

    Raises:
        UsageError: if the network takes fewer inputs, needs more, or takes no context in a model with conditions.
    """
    where = f"the network {type(network).__name__}"
    wanted = f"({', '.join(inputs)}) or ({', '.join(inputs)}, context)"
    try:
        parameters = list(inspect.signature(network.forward if isinstance(network, nn.Module) else network).parameters.values())
    except (TypeError, ValueError):
        raise UsageError(f"{where} has no signature that can be read: give its forward the parameters {wanted}") from None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return network
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    n = len(inputs)
    named = any(p.kind is p.KEYWORD_ONLY for p in required)
    if len(positional) < n or len(required) > n + 1 or named:
        raise UsageError(f"{where} takes ({', '.join(p.name for p in parameters)}): its forward must take {wanted}")
    if len(positional) > n and (positional[n].default is inspect.Parameter.empty or positional[n].name == "context"):
        return network
    if conditional:
        raise UsageError(f"{where} takes no context, and the model has conditions: give its forward a parameter context")
    return WithoutContext(network)
