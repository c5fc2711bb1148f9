"""Train, sample, score and compare the five classical families of deep generative models on your own data.

import ancestral as an
model = an.train("digits", budget="2m")
x = model.sample(16, seeds=range(16))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ancestral.version import __version__ as __version__

if TYPE_CHECKING:
    from ancestral.api import load, train
    from ancestral.assess import evaluate, report
    from ancestral.contest import contest as compare
    from ancestral.data import DataError, DataSet, DataSpec
    from ancestral.data import load as load_data
    from ancestral.errors import AncestralError, UsageError
    from ancestral.families import GenerativeModel

_HOMES = {
    "train": ("ancestral.api", "train"),
    "load": ("ancestral.api", "load"),
    "evaluate": ("ancestral.assess", "evaluate"),
    "compare": ("ancestral.contest", "contest"),
    "report": ("ancestral.assess", "report"),
    "load_data": ("ancestral.data", "load"),
    "DataError": ("ancestral.data", "DataError"),
    "DataSet": ("ancestral.data", "DataSet"),
    "DataSpec": ("ancestral.data", "DataSpec"),
    "AncestralError": ("ancestral.errors", "AncestralError"),
    "UsageError": ("ancestral.errors", "UsageError"),
    "GenerativeModel": ("ancestral.families", "GenerativeModel"),
}

__all__ = [
    "AncestralError",
    "DataError",
    "DataSet",
    "DataSpec",
    "GenerativeModel",
    "UsageError",
    "compare",
    "evaluate",
    "load",
    "load_data",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    """Names load what they need when they are first used, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ancestral' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
