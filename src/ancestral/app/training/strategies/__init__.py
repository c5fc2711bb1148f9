"""Where the parts of a global batch are computed, and how their gradients and statistics are added."""

from ancestral.app.training.strategies.replicated import Replicated

__all__ = ["Replicated"]
