"""Where the parts of a global batch are computed, and how their gradients and statistics are added."""

from ancestral.app.processes import Processes
from ancestral.app.training.strategies.replicated import Replicated
from ancestral.app.training.strategies.sharded import Sharded


def strategy_of(name: str, processes: Processes, parts: int, *, ordered: bool) -> Replicated:
    """Return the strategy `name`. One process holds the whole model in any case. Arguments as in `Replicated`."""
    kind = Sharded if name == "sharded" and processes.count > 1 else Replicated
    return kind(processes, parts, ordered=ordered)


__all__ = ["Replicated", "Sharded", "strategy_of"]
