"""Strategies, which say which process computes which parts of a global batch, and how gradients and statistics are added."""

from ancestral.app.processes import Processes
from ancestral.app.training.strategies.replicated import Replicated


def strategy_of(name: str, processes: Processes, parts: int, *, ordered: bool) -> Replicated:
    """Return the strategy `name`. One process holds the whole model in any case. Arguments as in `Replicated`."""
    if name == "replicated" or processes.count == 1:
        return Replicated(processes, parts, ordered=ordered)
    from ancestral.app.training.strategies.sharded import Sharded  # FSDP takes long to import

    return Sharded(processes, parts, ordered=ordered)


__all__ = ["Replicated", "strategy_of"]
