"""The memory of a training step, and the number of parts in which a batch fits into it.

A batch is computed in parts (`stage`), whose number changes the result by rounding only. So a batch that is too large for the
memory needs no other setting: it is computed in more parts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ancestral.app.data import DataSet
from ancestral.batch import Batch
from ancestral.models import GenerativeModel
from ancestral.noise import StreamNoise
from ancestral.runtime import Runtime, free_memory

SAFE = 0.8  # the share of the free memory that a step may take
OVERHEAD = 1.5  # bytes of a step over those that its graph keeps: gradients of activations, and buffers of the kernels
FEW = (2, 4)  # samples of the two measurements, whose difference does not contain the parameters


def bytes_per_sample(model: GenerativeModel, data: DataSet, runtime: Runtime) -> float:
    """Return the bytes that the forward pass of a loss keeps for its backward pass, for each sample: the most of any player.

    They are counted on a few samples, in evaluation mode, so that the model does not change.

    Args:
        model: The model, on its device.
        data: Its data, with encoded conditions.
        runtime: Device and precision.
    """
    few, more = (min(n, len(data.train)) for n in FEW)
    if few == more:
        return 0.0
    training = model.training
    model.eval()
    try:
        return max(
            (_kept(model, data, runtime, player.name, more) - _kept(model, data, runtime, player.name, few)) / (more - few)
            for player in model.players()
        )
    finally:
        model.train(training)


def _kept(model: GenerativeModel, data: DataSet, runtime: Runtime, player: str, n: int) -> int:
    """Return the bytes of the storages that the graph of a player's loss on n samples keeps."""
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # so that no address is used twice

    def keep(t: Tensor) -> Tensor:
        if t.device.type == runtime.device.type:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            held.append(t.detach())
        return t

    noise = StreamNoise(n, 0, 0, runtime.device)
    batch: Batch = data.batch(torch.arange(n), noise=noise.on_cpu()).to(runtime.device)
    with saved_tensors_hooks(keep, lambda t: t), runtime.autocast():
        model.losses(batch, player, noise)
    return sum(kept.values())


def parts_that_fit(each: float, batch: int, parts: int, runtime: Runtime) -> int:
    """Return the number of parts, doubled from `parts` until a part fits into the free memory, at most `batch`.

    Args:
        each: Bytes for each sample, of `bytes_per_sample`.
        batch: The samples of a batch.
        parts: The least number of parts.
        runtime: The device.
    """
    room = SAFE * free_memory(runtime.device)
    while parts < batch and -(-batch // parts) * each * OVERHEAD > room:
        parts = min(batch, 2 * parts)
    return parts
