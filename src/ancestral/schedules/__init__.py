"""The forward process: noise levels and derived coefficients, continuous processes, the discrete chain, grids of times."""

from ancestral.builtin import built_in
from ancestral.registry import lookup
from ancestral.schedules.base import CLEAN, U_RANGE, Level, Levels, Schedule, posterior, transition
from ancestral.schedules.chain import Chain
from ancestral.schedules.continuous import VE, VP, Cosine, GeometricLevels, Linear, SubVP
from ancestral.schedules.grids import grid

built_in("schedule", "ddpm")(Chain.linear)
built_in("schedule", "ddpm-cosine")(Chain.cosine)


def schedule(name: str | Schedule) -> Schedule:
    """Return the schedule of that name, or the schedule itself. Raises UsageError for an unknown name."""
    if isinstance(name, Schedule):
        return name
    found: Schedule = lookup("schedule", name)()
    return found


__all__ = [
    "CLEAN",
    "U_RANGE",
    "VE",
    "VP",
    "Chain",
    "Cosine",
    "GeometricLevels",
    "Level",
    "Levels",
    "Linear",
    "Schedule",
    "SubVP",
    "grid",
    "posterior",
    "schedule",
    "transition",
]
