"""The families: the paper's algorithm and nothing else."""

from ancestral.families.base import GenerativeModel, Player, Scaling, seeds_from

__all__ = ["GenerativeModel", "Player", "Scaling", "seeds_from"]
