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
    from ancestral.app.api import load, train
    from ancestral.app.compare import compare
    from ancestral.app.data import DataError, DataSet, DataSpec
    from ancestral.app.data import load as load_data
    from ancestral.app.evaluate import evaluate, report
    from ancestral.app.sampling import SampleRequest
    from ancestral.errors import AncestralError, UsageError
    from ancestral.models import GenerativeModel
    from ancestral.registry import register

_HOMES = {
    "train": ("ancestral.app.api", "train"),
    "load": ("ancestral.app.api", "load"),
    "evaluate": ("ancestral.app.evaluate", "evaluate"),
    "compare": ("ancestral.app.compare", "compare"),
    "report": ("ancestral.app.evaluate", "report"),
    "load_data": ("ancestral.app.data", "load"),
    "DataError": ("ancestral.app.data", "DataError"),
    "DataSet": ("ancestral.app.data", "DataSet"),
    "DataSpec": ("ancestral.app.data", "DataSpec"),
    "AncestralError": ("ancestral.errors", "AncestralError"),
    "UsageError": ("ancestral.errors", "UsageError"),
    "GenerativeModel": ("ancestral.models", "GenerativeModel"),
    "SampleRequest": ("ancestral.app.sampling", "SampleRequest"),
    "register": ("ancestral.registry", "register"),
}

__all__ = [
    "AncestralError",
    "DataError",
    "DataSet",
    "DataSpec",
    "GenerativeModel",
    "SampleRequest",
    "UsageError",
    "compare",
    "evaluate",
    "load",
    "load_data",
    "register",
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
