"""What a report is made from, besides the comparison itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Quality at one setting of the sampler: seconds a sample, and the headline distance with its error."""

    setting: str
    seconds: float
    distance: float
    std_err: float | None


@dataclass(frozen=True)
class Entry:
    """One trained model: its measurements in training (rows of metrics.jsonl), its recipe as YAML, its costs of sampling."""

    rows: Sequence[dict[str, Any]] = ()
    recipe: str = ""
    costs: Sequence[Cost] = field(default_factory=tuple)
    findings: Sequence[str] = ()
