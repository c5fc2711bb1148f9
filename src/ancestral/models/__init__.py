"""The families. Each module has the algorithm of its paper and nothing else."""

from ancestral.models.base import GenerativeModel, Player, Standardize, part_of, seeds_from
from ancestral.models.capabilities import (
    Diagnosis,
    HasBound,
    HasCritic,
    HasDecoder,
    HasDiagnosis,
    HasLatent,
    HasPostFit,
    HasPrior,
    HasProgress,
    HasReconstruction,
    HasRunningState,
    HasScore,
)

__all__ = [
    "Diagnosis",
    "GenerativeModel",
    "HasBound",
    "HasCritic",
    "HasDecoder",
    "HasDiagnosis",
    "HasLatent",
    "HasPostFit",
    "HasPrior",
    "HasProgress",
    "HasReconstruction",
    "HasRunningState",
    "HasScore",
    "Player",
    "Standardize",
    "part_of",
    "seeds_from",
]
