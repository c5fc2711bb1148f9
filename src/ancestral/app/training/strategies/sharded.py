"""Sharding: every process holds a part of each network's weights, gradients, averages and optimiser state (FSDP2).

torch's `fully_shard` gathers the weights of a network before its first use in a step, and adds and divides the gradients after
the last one. The weights stay gathered in between, so that losses may differentiate twice. Between steps a process holds only
its share. Parameters outside of `GenerativeModel.networks` are replicated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from ancestral.app.processes import Processes
from ancestral.app.training.player import FlatParameters, PlayerState
from ancestral.app.training.strategies.replicated import Replicated
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel


class ShardedParameters(FlatParameters):
    """One buffer `value` for what a process holds of the parameters: its shards, and all of each replicated parameter.

    Args:
        parameters: The parameters, sharded (`DTensor`) or not.
        processes: The processes of the training.
        networks: The networks that hold the sharded parameters.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], processes: Processes, networks: Sequence[FSDPModule]):
        self.parameters, self.processes, self.networks = list(parameters), processes, networks
        local = [_local(p.detach()) for p in self.parameters]
        self.value = nn.Parameter(torch.cat([t.reshape(-1) for t in local]))
        self.value.grad = torch.zeros_like(self.value)
        self.sections = [slice(a, b) for a, b in pairwise(accumulate((t.numel() for t in local), initial=0))]

    def clear(self) -> None:
        for p in self.parameters:
            p.grad = None
        self.grad.zero_()

    def collect(self) -> None:
        """Copy the gradients into the buffer, and add those of replicated parameters over the processes."""
        for p, section in zip(self.parameters, self.sections, strict=True):
            if p.grad is not None:
                self.grad[section].copy_(_local(p.grad).reshape(-1))
            if not isinstance(p, DTensor):
                self.grad[section] = self.processes.add(self.grad[section].clone())

    def norm(self) -> Tensor:
        squares = torch.zeros(2, device=self.grad.device)
        for p, section in zip(self.parameters, self.sections, strict=True):
            squares[int(isinstance(p, DTensor))] += self.grad[section].square().sum()
        return (squares[0] + self.processes.add(squares[1].clone())).sqrt()

    @torch.no_grad()
    def apply(self) -> None:
        for network in self.networks:
            network.reshard()
        for p, section in zip(self.parameters, self.sections, strict=True):
            local = _local(p)
            local.copy_(self.value[section].view(local.shape))

    def whole(self, flat: Tensor) -> Iterator[Tensor]:
        for p, section in zip(self.parameters, self.sections, strict=True):
            part = flat.detach()[section].view(_local(p).shape)
            if isinstance(p, DTensor):
                part = DTensor.from_local(part, p.device_mesh, p.placements, shape=p.shape, stride=p.stride()).full_tensor()
            yield part

    def fill(self, flat: Tensor, tensors: Iterable[Tensor]) -> None:
        for p, section, tensor in zip(self.parameters, self.sections, tensors, strict=True):
            tensor = tensor.to(flat.device).contiguous()
            if isinstance(p, DTensor):
                tensor = distribute_tensor(tensor, p.device_mesh, p.placements).to_local()
            flat.detach()[section].copy_(tensor.reshape(-1))


class Sharded(Replicated):
    """Shards of the networks' weights, gradients, averages and optimiser states (FSDP2). Arguments as in `Replicated`.

    Raises:
        UsageError: If sums are to be ordered, which gradients that are added in shards cannot be.
    """

    per_parameter = False

    def __init__(self, processes: Processes, parts: int = 1, *, ordered: bool = False):
        super().__init__(processes, parts)
        if ordered:
            raise UsageError("train.ordered=true needs train.strategy=replicated: leave one of them out")
        self.networks: list[FSDPModule] = []
        self.plain: list[nn.Module] = []  # a copy of each network as it was, without weights

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        self.networks, self.plain = [], []
        assert isinstance(model, GenerativeModel)
        for network in model.networks():
            empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in network.parameters()}
            self.plain.append(deepcopy(network, dict(empty)))
            for p in network.parameters():
                p.data = p.data.contiguous()  # FSDP takes no other layout
            network.register_forward_hook(_owned)
            mesh = init_device_mesh(model.device.type, (self.processes.count,))
            whole = fully_shard(network, mesh=mesh, reshard_after_forward=False)
            assert isinstance(whole, FSDPModule)
            whole.set_force_sum_reduction_for_comms(True)  # gradients are added: shares make the mean
            whole.set_gradient_divide_factor(1.0)
            whole.set_reshard_after_backward(False)
            self.networks.append(whole)

    def release(self, model: nn.Module) -> None:
        names = {id(module): name for name, module in model.named_modules()}
        for network, plain in zip(self.networks, self.plain, strict=True):
            assert isinstance(network, nn.Module)
            plain.load_state_dict(self.state_dict(network), assign=True)
            parent, _, name = names[id(network)].rpartition(".")
            setattr(model.get_submodule(parent), name, plain.train(network.training))
        self.networks, self.plain = [], []

    def flatten(self, parameters: Iterable[nn.Parameter]) -> FlatParameters:
        return ShardedParameters(parameters, self.processes, self.networks)

    def state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        for network in self.networks:
            network.reshard()
        return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in model.state_dict().items()}

    def backward(self, loss: Tensor, player: PlayerState, *, last: bool) -> None:
        for network in self.networks:
            network.set_requires_gradient_sync(last)
        torch.autograd.backward(loss)

    def reduce(self, player: PlayerState, parts: int) -> None:
        assert isinstance(player.flat, ShardedParameters)
        player.flat.collect()
        for network in self.networks:
            network.reshard()


def _owned(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Copy outputs that are views, in which FSDP's mark for the backward pass could be lost."""
    return tree_map(lambda t: t.clone() if isinstance(t, Tensor) and t._is_view() else t, output)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
