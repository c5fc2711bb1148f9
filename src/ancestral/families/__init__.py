"""The families: the paper's algorithm and nothing else."""

from ancestral.families.base import GenerativeModel, Player, Scaling, seeds_from
from ancestral.families.capabilities import (
    Diagnosis,
    HasBound,
    HasCritic,
    HasDecoder,
    HasDiagnosis,
    HasEpilogue,
    HasLatent,
    HasPhases,
    HasPrior,
    HasReconstruction,
    HasScore,
)

__all__ = [
    "Diagnosis",
    "GenerativeModel",
    "HasBound",
    "HasCritic",
    "HasDecoder",
    "HasDiagnosis",
    "HasEpilogue",
    "HasLatent",
    "HasPhases",
    "HasPrior",
    "HasReconstruction",
    "HasScore",
    "Player",
    "Scaling",
    "seeds_from",
]
