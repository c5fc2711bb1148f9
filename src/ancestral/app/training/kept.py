"""What a checkpoint holds of a model besides what its players train: "buffer/NAME", what has no gradient, and "fixed/NAME", the
parameters of other stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ancestral.app.training.player import PlayerState


def kept(model: nn.Module, seats: Iterable[PlayerState]) -> dict[str, Tensor]:
    """These tensors by their names in a checkpoint. seats: of the players, who keep their parameters themselves."""
    saved = model.state_dict()
    seated = {id(p) for seat in seats for p in seat.player.parameters}
    buffers = {f"buffer/{name}": buffer for name, buffer in model.named_buffers() if name in saved}
    return buffers | {f"fixed/{name}": p.data for name, p in model.named_parameters() if id(p) not in seated}


@torch.no_grad()
def put_back(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `kept`, of all the tensors of a checkpoint."""
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        if kind == "buffer":
            model.get_buffer(name).copy_(value)
        elif kind == "fixed":
            model.get_parameter(name).copy_(value)
