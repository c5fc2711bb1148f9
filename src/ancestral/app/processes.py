"""The processes of one command, which `torchrun` or `--nproc` starts together. A thin layer over torch.distributed.

Every process runs the same program. The main process, number 0, writes files and shows progress, and it takes every decision
that depends on the time; the others get it by `shared`. All collective methods must be called by all processes in the same
order. With one process they do nothing.
"""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from itertools import count
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from ancestral.errors import AncestralError
from ancestral.runtime import memory_is_full

TOGETHER = timedelta(seconds=10)  # between the ends of the processes, where all of them end
PATIENCE = timedelta(hours=2)  # for work that one process does while the others wait, such as the reading of large data

T = TypeVar("T")
P = ParamSpec("P")


class LostProcessError(AncestralError):
    """Another process of the command has ended."""


def _collective(method: Callable[Concatenate[Processes, P], T]) -> Callable[Concatenate[Processes, P], T]:
    """Raise LostProcessError where torch reports that another process cannot be reached."""

    @wraps(method)
    def wrapped(self: Processes, /, *args: P.args, **how: P.kwargs) -> T:
        try:
            return method(self, *args, **how)
        except RuntimeError as error:
            if memory_is_full(error):
                raise
            raise LostProcessError(
                "another process of this command was killed or failed: run the same command again, which continues from the "
                "last checkpoint"
            ) from error

    return wrapped


@dataclass(frozen=True)
class Processes:
    """The position of this process among those of the command.

    Args:
        rank: the number of this process, from 0.
        count: the number of processes.
        local: the number of this process on its machine.
        store: the store that all processes read and write, or None.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    store: Store | None = field(default=None, compare=False, repr=False)

    @property
    def main(self) -> bool:
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return the device of this process. With several processes, each takes the CUDA device of its local number."""
        cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
        return f"cuda:{self.local % max(1, torch.cuda.device_count())}" if cuda and self.count > 1 else name

    @_collective
    def shared(self, value: T) -> T:
        """Return the main process's value."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    @_collective
    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes, in the order of their numbers."""
        if self.count == 1:
            return [value]
        sent = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        dist.all_gather(sizes, torch.tensor([len(sent)]))
        most = max(int(size) for size in sizes)
        rows = [torch.empty(most, dtype=torch.uint8) for _ in range(self.count)]
        dist.all_gather(rows, torch.cat([sent, sent.new_zeros(most - len(sent))]))
        return [pickle.loads(row[: int(size)].numpy().tobytes()) for row, size in zip(rows, sizes, strict=True)]

    @_collective
    def largest(self, *numbers: float) -> list[float]:
        """Return the largest of each number over the processes."""
        if self.count == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return values.tolist()

    @_collective
    def add(self, value: Tensor) -> Tensor:
        """Replace `value` by its sum over the processes, in place, and return it."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    @_collective
    def stacked(self, value: Tensor) -> Tensor:
        """Return the tensors `(k, ...)` of all processes as one `(count, k, ...)`. Their shapes must be equal."""
        if self.count == 1:
            return value[None]
        out = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(self.count)]
        dist.all_gather(out, value.contiguous())
        return torch.stack(out)

    @_collective
    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the main process."""
        if self.count > 1:
            for tensor in tensors:
                held = tensor.detach().contiguous()
                dist.broadcast(held, src=0)
                if held.data_ptr() != tensor.data_ptr():
                    tensor.detach().copy_(held)

    def part(self, n: int) -> slice:
        """Return the rows of n that this process works on. The parts follow each other and differ by at most one row."""
        size, more = divmod(n, self.count)
        start = self.rank * size + min(self.rank, more)
        return slice(start, start + size + (self.rank < more))

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.gathered(None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the first process of each machine do the work before the others, which then find its results on the disk."""
        if self.local:
            self.wait()
        try:
            yield
        finally:  # if the work fails, it fails in the others too
            if not self.local:
                self.wait()

    def by_main(self, work: Callable[[], T]) -> T:
        """Return the result of work that only the main process does. Its AncestralError is raised in all processes."""
        outcome: tuple[Any, AncestralError | None] = (None, None)
        if self.main:
            try:
                outcome = (work(), None)
            except AncestralError as error:
                outcome = (None, error)
        result, failure = self.shared(outcome)
        if failure is not None:
            raise failure
        return cast(T, result)

    def says(self, text: str) -> bool:
        """Return whether this process is the first to tell the user this text. The others that have it to say are silent."""
        if self.store is None:
            return self.main
        try:
            return bool(self.store.add(f"said/{text}", 1) == 1)
        except RuntimeError:  # the process that held the store has ended
            return True


_joined: Processes = Processes()
_starts = count()


def processes() -> Processes:
    """Return the position of this process in the group that `joined` opened, or a single process."""
    return _joined


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that were launched together, and leave them at the end.

    A process that was started alone stays alone. A group that the caller has made with `torch.distributed.init_process_group`
    is used and not closed.

    Raises:
        AncestralError: if the processes do not find each other.
    """
    global _joined  # noqa: PLW0603
    if _joined.count > 1 or not (dist.is_available() and (dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) > 1)):
        yield _joined
        return
    fresh = None
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if not dist.is_initialized():
        import torch.distributed.nn  # if it is imported later, its defaults hold the group, which then never ends

        cuda = torch.cuda.is_available() and dist.is_nccl_available()
        if cuda:
            torch.cuda.set_device(local % torch.cuda.device_count())
        try:
            store, rank, number = next(rendezvous("env://", timeout=PATIENCE))
            # a group must not find the keys of the one before it
            fresh = PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{next(_starts)}", store)
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            dist.init_process_group(backend, store=fresh, rank=rank, world_size=number, timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise AncestralError(f"the processes do not find each other: {str(error).splitlines()[0]}") from None
    _joined = Processes(dist.get_rank(), dist.get_world_size(), local, fresh)
    try:
        yield _joined
        if fresh is not None:
            _close(_joined)
    except BaseException as error:
        # a stop and a wrong request end all processes alike; a process that waits for a lost one would never end
        if fresh is not None and not isinstance(error, LostProcessError) and _all_arrive(_joined, fresh):
            _close(_joined)
        raise
    finally:
        _joined = Processes()


def _all_arrive(group: Processes, store: Store) -> bool:
    """Return whether all processes come here within the time in which they can be expected to."""
    names = [f"leaving/{rank}" for rank in range(group.count)]
    try:
        store.set(names[group.rank], "")
        store.wait(names, TOGETHER)
    except RuntimeError:
        return False
    return True


def _close(group: Processes) -> None:
    """Close the group. Its threads abort a process that ends while they run."""
    gc.collect()
    group.wait()
    dist.destroy_process_group()
