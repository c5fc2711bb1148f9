"""The forward process: its levels and what follows from them, continuous processes, the discrete chain, grids of times."""

from ancestral.schedules.base import CLEAN, U_RANGE, Level, Levels, Schedule, posterior, transition
from ancestral.schedules.chain import Chain
from ancestral.schedules.continuous import VE, VP, Cosine, GeometricLevels, Linear, SubVP
from ancestral.schedules.grids import Spacing, grid

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
    "Spacing",
    "SubVP",
    "grid",
    "posterior",
    "transition",
]
