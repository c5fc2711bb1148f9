"""Data parallelism: every process holds the whole model and computes some parts of each global batch.

    gradient = sum over all parts k of  grad (share_k * mean loss of part k)

The parts are the same for any number of processes if `train.accumulate` is a multiple of it, and otherwise differ only in where
the batch is cut. Shares are of the global batch, so the sum is the gradient of its mean loss in every case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ancestral.app.processes import Processes
from ancestral.app.training.player import FlatParameters, PlayerState
from ancestral.errors import UsageError


class Replicated:
    """Whole copies of the model, whose gradients are added by one all-reduce of the flat gradient (as in DDP).

    Args:
        processes: The processes of the training.
        parts: The least number of parts of a global batch.
        ordered: Whether sums over parts are taken in the order of the parts, one after the other. The results then have the
            same bits for every number of processes with the same parts, and each process receives the terms of all parts.
    """

    per_parameter = True  # whether an optimiser can be given the parameters one by one

    def __init__(self, processes: Processes, parts: int = 1, *, ordered: bool = False):
        self.processes, self.ordered = processes, ordered
        self.parts = max(parts, processes.count)
        self._gradients: list[Tensor] = []

    def divide(self, index: Tensor) -> tuple[tuple[Tensor, ...], range]:
        """Return all parts of a global batch `index` and the numbers of those that this process computes.

        Raises:
            UsageError: If there are fewer samples than processes.
        """
        if len(index) < self.processes.count:
            raise UsageError(
                f"a batch of {len(index)} samples cannot be divided among {self.processes.count} processes: raise train.batch, "
                "or use fewer processes"
            )
        parts = index.tensor_split(min(self.parts, len(index)))
        return parts, range(*self.processes.part(len(parts)).indices(len(parts)))

    def total(self, values: Sequence[Tensor], parts: int) -> Tensor:
        """Return the sum over all `parts` parts of the global batch. values: the terms of this process's parts."""
        if not self.ordered or self.processes.count == 1:
            return self.processes.add(folded(values))
        most = -(-parts // self.processes.count)
        padded = torch.stack([*values, *[torch.zeros_like(values[0])] * (most - len(values))])
        rows = self.processes.stacked(padded)
        counts = [len(range(*part.indices(parts))) for part in self._shares(parts)]
        return folded([rows[rank, i] for rank, count in enumerate(counts) for i in range(count)])

    def prepare(self, model: nn.Module) -> None:
        """Give all processes the model of the main process. Called before the parameters are flattened."""
        self.processes.copy([*model.parameters(), *model.buffers()])

    def release(self, model: nn.Module) -> None:
        """Give every process the whole model again, after the training of a stage."""

    def flatten(self, parameters: Iterable[nn.Parameter]) -> FlatParameters:
        """Return the buffer of a player's parameters."""
        return FlatParameters(parameters)

    def state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole tensors of a model by name."""
        return model.state_dict()

    def backward(self, loss: Tensor, player: PlayerState, *, last: bool) -> None:
        """Add the gradient of the loss of a part. last: whether it is the last part of this process."""
        torch.autograd.backward(loss)
        if self.ordered and self.processes.count > 1:
            self._gradients.append(player.flat.grad.clone())
            player.flat.grad.zero_()

    def reduce(self, player: PlayerState, parts: int) -> None:
        """Replace the gradient of this process's parts by that of all parts."""
        if self.processes.count == 1:
            return
        if self.ordered:
            player.flat.grad.copy_(self.total(self._gradients, parts))
            self._gradients = []
        else:
            self.processes.add(player.flat.grad)

    def _shares(self, parts: int) -> list[slice]:
        return [Processes(rank, self.processes.count).part(parts) for rank in range(self.processes.count)]


def folded(values: Sequence[Tensor]) -> Tensor:
    """Return ((v_0 + v_1) + v_2) + ..., in this order."""
    total = values[0].clone()
    for value in values[1:]:
        total += value
    return total
