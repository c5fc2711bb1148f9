"""Configurations of objects: the class and the arguments with which an object was built.

    @configurable
    class UNet(nn.Module): ...

    encode(UNet(1, (64, 128)))  ->  {"class": "UNet", "in_channels": 1, "channels": [64, 128], "blocks": 1, ...}
    decode(...)                 ->  a new UNet with those arguments

A configuration is JSON: numbers, strings, lists, and nested objects of registered classes. `decode` builds only objects of
registered classes, so a file cannot run arbitrary code. A module whose class is not registered, such as the user's own network,
is written as `{"foreign": CLASS}` and must be given to `decode`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ancestral.errors import AncestralError, UsageError

C = TypeVar("C", bound=type)
N = TypeVar("N", bound=nn.Module)

CLASSES: dict[str, Callable[..., Any]] = {}  # by their names in configurations
RECORD, TRANSFORMS = "_configuration_arguments", "_configuration_transforms"


def configurable(cls: C) -> C:
    """Register a class by its name, and record the arguments with which its objects are built.

    A dataclass is only registered, since its fields are its arguments.

    Raises:
        ValueError: if another class has the name.
    """
    if (there := CLASSES.get(cls.__name__, cls)).__module__ != cls.__module__:
        raise ValueError(f"there is a configurable class {cls.__name__} already, in {there.__module__}")
    CLASSES[cls.__name__] = cls
    if is_dataclass(cls):
        return cls
    build: Callable[..., None] = vars(cls).get("__init__") or cls.__init__  # type: ignore[misc]
    signature = inspect.signature(build)
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [name for name, parameter in signature.parameters.items() if parameter.kind not in several][1:]
    names = [name for name in names if name not in getattr(cls, "unrecorded", ())]

    @wraps(build)
    def record(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is cls:  # a subclass records its own arguments
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            object.__setattr__(self, RECORD, {name: bound.arguments[name] for name in names})
        build(self, *args, **kwargs)

    cls.__init__ = record  # type: ignore[misc]
    return cls


def transformed(network: N, function: Callable[[N], N]) -> N:
    """Record that `function` has changed a network in place, so that `decode` applies it to the rebuilt network."""
    CLASSES[function.__name__] = function
    object.__setattr__(network, TRANSFORMS, (*getattr(network, TRANSFORMS, ()), function.__name__))
    return network


def encode(value: Any, where: str = "") -> Any:
    """Return JSON from which `decode` builds an equal object.

    Args:
        value: the object.
        where: the name of the value in errors.

    Raises:
        UsageError: if a value has no such form.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return {"tensor": value.detach().cpu().tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, Mapping):
        return {"mapping": {str(name): encode(v, f"{where}.{name}".strip(".")) for name, v in value.items()}}
    cls: Any = type(value)
    registered: Any = CLASSES.get(cls.__name__)
    if registered is cls:
        if is_dataclass(cls):
            arguments = {field.name: getattr(value, field.name) for field in fields(value)}
        else:
            arguments = getattr(value, RECORD)
        config: dict[str, Any] = {"class": str(cls.__name__)}
        config |= {key: encode(v, f"{where}.{key}".strip(".")) for key, v in arguments.items()}
        for name in getattr(value, TRANSFORMS, ()):
            config = {"class": name, "network": config}
        return config
    if isinstance(value, nn.Module):
        return {"foreign": type(value).__qualname__}
    if isinstance(value, Sequence):
        return [encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
    raise UsageError(f"{where or 'a value'} has the class {type(value).__name__}, which a configuration cannot hold")


def decode(config: Any, foreign: Mapping[str, nn.Module] | nn.Module | None = None, where: str = "") -> Any:
    """Build the object of a configuration.

    Args:
        config: the result of `encode`, possibly written to and read from JSON.
        foreign: the modules that are not ancestral's: one module, or several by the names of their arguments.
        where: the name of the object in errors.

    Raises:
        UsageError: if a foreign module is missing.
        AncestralError: if a class is unknown, or its arguments do not fit.
    """
    if isinstance(config, list):
        return [decode(v, foreign, f"{where}[{i}]") for i, v in enumerate(config)]
    if not isinstance(config, dict):
        return config
    if "tensor" in config:
        return torch.tensor(config["tensor"], dtype=getattr(torch, str(config.get("dtype", "float32"))))
    if "mapping" in config:
        return {name: decode(v, foreign, f"{where}.{name}".strip(".")) for name, v in config["mapping"].items()}
    if "foreign" in config:
        return _given(config["foreign"], foreign, where)
    cls = CLASSES.get(str(config.get("class")))
    if cls is None:
        raise AncestralError(f"the class {config.get('class')!r} of {where or 'the model'} is unknown to this version")
    arguments = {key: decode(v, foreign, f"{where}.{key}".strip(".")) for key, v in config.items() if key != "class"}
    try:
        return cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()})
    except TypeError as error:
        raise AncestralError(f"{where or 'the model'} cannot be built: {error}") from None


def foreign_modules(config: Any, where: str = "") -> dict[str, str]:
    """Return the classes of a configuration's foreign modules, by the path of the argument, e.g. `prior.network`."""
    if isinstance(config, list):
        return {name: cls for i, v in enumerate(config) for name, cls in foreign_modules(v, f"{where}[{i}]").items()}
    if not isinstance(config, dict):
        return {}
    if "foreign" in config:
        return {where: str(config["foreign"])}
    parts = config.get("mapping", config).items()
    return {name: cls for key, v in parts for name, cls in foreign_modules(v, f"{where}.{key}".strip(".")).items()}


def _given(cls: str, foreign: Mapping[str, nn.Module] | nn.Module | None, where: str) -> nn.Module:
    if isinstance(foreign, nn.Module):
        return foreign
    for name in (where, where.rsplit(".", 1)[-1]):
        if foreign is not None and name in foreign:
            return foreign[name]
    raise UsageError(f"the {where} of this model is your own class {cls}: build it and give it")


def optional_in_state(module: nn.Module, *names: str) -> None:
    """Allow `load_state_dict` of a state without these tensors. They then keep their values."""

    def fill(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name in names:
            state.setdefault(prefix + name, getattr(module, name))

    module.register_load_state_dict_pre_hook(fill)
