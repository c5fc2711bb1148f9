"""Several processes on this machine for one command, by torch's elastic launcher, as `torchrun --standalone` starts them."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from uuid import uuid4

from ancestral.errors import AncestralError, UsageError

SAVING = 60  # seconds in which processes that are asked to stop can save


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run `ancestral ARGUMENTS` in `count` processes, and return the exit code.

    Each process has an equal share of the CPU's cores, unless OMP_NUM_THREADS is set.

    Raises:
        UsageError: if the number of processes is not positive, or larger than the number of CUDA devices.
        AncestralError: if a process was killed.
    """
    import torch

    if count < 1:
        raise UsageError(f"--nproc is the number of processes, and {count} is none: give 1 or more")
    devices = torch.cuda.device_count()
    if 0 < devices < count and not {"--device=cpu", "cpu"} & set(arguments):
        raise UsageError(f"--nproc {count}: this machine has {devices} CUDA devices, and each process needs its own")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what it says is for its developers
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        shutdown_timeout=SAVING,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "ancestral", *arguments)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        codes = {rank: failure.exitcode for rank, failure in failed.failures.items()}
        killed = {rank: -code for rank, code in codes.items() if code < 0 and -code != signal.SIGTERM}  # by others than us
        if not killed:  # the process that failed has said why
            return int(failed.get_first_failure()[1].exitcode)
        rank, number = next(iter(killed.items()))
        raise AncestralError(
            f"process {rank} of {count} was killed by signal {number}: run the same command again, which continues from the "
            "last checkpoint"
        ) from None
    return 0
