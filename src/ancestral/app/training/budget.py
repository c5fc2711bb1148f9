"""How long to train: time, iterations or epochs, and how far along a run is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ancestral.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Budget:
    """An amount of seconds, iterations or epochs."""

    amount: float
    unit: Literal["seconds", "iterations", "epochs"]

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From "90s", "2m", "1h30m", "20000it" or "5epochs". Raises UsageError otherwise."""
        compact = str(text).strip().lower().replace(" ", "").replace("_", "")
        counted = re.fullmatch(r"(\d+(?:\.\d+)?)(it|its|iterations|steps|epoch|epochs)", compact)
        timed = re.fullmatch(r"(?:\d+(?:\.\d+)?(?:min|s|m|h|d))+", compact)
        if counted:
            amount = float(counted[1])
            budget = cls(amount, "epochs" if counted[2].startswith("epoch") else "iterations")
        elif timed:
            parts = re.findall(r"(\d+(?:\.\d+)?)(min|s|m|h|d)", compact)
            budget = cls(sum(float(number) * _UNITS[unit] for number, unit in parts), "seconds")
        else:
            raise UsageError(f"cannot read the budget {text!r}: write a time (90s, 2m, 1h30m), 20000it or 5epochs")
        if budget.amount <= 0:
            raise UsageError(f"the budget {text!r} is empty: give more than zero")
        return budget

    def progress(self, *, seconds: float, iterations: int, epochs: float) -> float:
        """The spent fraction, in [0, 1]."""
        spent = {"seconds": seconds, "iterations": iterations, "epochs": epochs}[self.unit]
        return min(1.0, spent / self.amount)
