"""How fast ancestral trains and samples on a CUDA GPU, and which share of the machine's arithmetic it uses.

    python benchmarks/gpu.py [--seconds 6] [--sizes 28 64 128] [--peers] [--compile] [--json FILE]

Each loop trains on random pictures in memory. MFU is the model's operations (convolutions and matrix products, three times one
forward pass for a training step) over the time, as a share of the rate of a large bfloat16 matrix product that is measured in
the same call. The peer is diffusers' `UNet2DModel`, tuned: bfloat16 autocast, channels-last, fused AdamW, data on the device,
no read of a loss between steps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import ancestral as an
from ancestral.app.api import plan

STEPS = 20  # of the sampler


@dataclass(frozen=True)
class Case:
    """Pictures of `channels` and `side`, our settings, and the peer's widths."""

    side: int
    channels: int
    batch: int
    settings: tuple[str, ...]
    peer: tuple[int, ...]
    layers: int


CASES = {
    28: Case(28, 1, 512, (), (32, 64, 128), 1),
    64: Case(64, 3, 256, ("model.channels=[160,320,480]", "model.patch=2", "model.blocks=2"), (128, 192, 320, 384), 2),
    128: Case(128, 3, 128, ("model.channels=[160,320,480]", "model.patch=4", "model.blocks=2"), (128, 192, 320, 384), 2),
}


@dataclass
class Row:
    side: int
    loop: str
    parameters: float
    gflop: float
    images_per_second: float
    mfu: float
    peak_gib: float
    seconds_to_first: float


def peak_flops(device: str, n: int) -> float:
    """Measure the operations per second of a bfloat16 matrix product on random numbers."""
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    wait(device)
    start = time.perf_counter()
    for _ in range(20):
        a @ b
    wait(device)
    return 20 * 2 * n**3 / (time.perf_counter() - start)


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def gflop(evaluate: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        evaluate()
    return counter.get_total_flops() / 1e9


def timed(steps: Iterator[Any], batch: int, seconds: float, device: str) -> tuple[float, float]:
    """(images a second, seconds until the third step was done)."""
    start = time.perf_counter()
    for _ in range(3):
        next(steps)
    wait(device)
    first = time.perf_counter() - start
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(5):
            next(steps)
        wait(device)
        done += 5
    return done * batch / (time.perf_counter() - start), first


def ours(case: Case, folder: Path, compiled: bool, device: str) -> tuple[Iterator[Any], nn.Module, float]:
    pictures = torch.randint(0, 256, (4096, case.channels, case.side, case.side), dtype=torch.uint8)
    settings = (*case.settings, f"train.batch={case.batch}", "train.previews=0", "train.checkpoint_every=100000")
    trainer = plan(pictures, budget="1000000it", out=folder, device=device, settings=settings).begin()
    network = trainer.model.denoiser.network
    x, logsnr = torch.zeros(1, case.channels, case.side, case.side, device=device), torch.zeros(1, device=device)
    operations = gflop(lambda: network(x, logsnr, trainer.model.conditioner.null(1)))
    if compiled:
        network.compile()
    return iter(trainer), trainer.model, operations


def theirs(case: Case, compiled: bool, device: str) -> tuple[Iterator[Any], nn.Module, float]:
    from diffusers import UNet2DModel

    levels = len(case.peer)
    network = UNet2DModel(
        sample_size=case.side,
        in_channels=case.channels,
        out_channels=case.channels,
        layers_per_block=case.layers,
        block_out_channels=case.peer,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
    )
    network.to(device, memory_format=torch.channels_last)
    operations = gflop(lambda: network(torch.zeros(1, case.channels, case.side, case.side, device=device), 1))
    if compiled:
        network.compile()
    pictures = torch.randint(0, 256, (4096, case.channels, case.side, case.side), dtype=torch.uint8, device=device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    average = [p.detach().clone() for p in network.parameters()]

    def steps() -> Iterator[Tensor]:
        while True:
            x = pictures[torch.randint(0, len(pictures), (case.batch,), device=device)].float() / 127.5 - 1
            t, noise = torch.rand(case.batch, device=device), torch.randn_like(x)
            x_t = (1 - t.view(-1, 1, 1, 1)) * x + t.view(-1, 1, 1, 1) * noise
            with torch.autocast(device, torch.bfloat16):
                velocity = network(x_t.contiguous(memory_format=torch.channels_last), 1000 * t).sample
            loss = F.mse_loss(velocity.float(), noise - x)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad()
            torch._foreach_lerp_(average, list(network.parameters()), 0.001)
            yield loss

    return steps(), network, operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--peers", action="store_true", help="also time diffusers' network")
    parser.add_argument("--compile", action="store_true", help="also time both networks under torch.compile")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--batch", type=int, help="in place of that of each size")
    parser.add_argument("--product", type=int, default=8192, help="rows of the matrices (8192)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try this script, not to measure")
    asked = parser.parse_args()
    device = asked.device
    torch.backends.cudnn.benchmark = False
    peak = peak_flops(device, asked.product)
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(
        f"{card}, torch {torch.__version__}, ancestral {an.__version__}; bf16 matrix product {peak / 1e12:.0f} TFLOP/s",
        flush=True,
    )
    rows, drawn = [], []
    for side in asked.sizes:
        case = replace(CASES[side], batch=asked.batch or CASES[side].batch)
        for compiled in (False, True) if asked.compile else (False,):
            for name in ("ancestral", "diffusers") if asked.peers else ("ancestral",):
                with tempfile.TemporaryDirectory() as folder:
                    made = ours(case, Path(folder), compiled, device) if name == "ancestral" else theirs(case, compiled, device)
                    steps, model, operations = made
                    rate, first = timed(steps, case.batch, asked.seconds, device)
                    parameters = sum(p.numel() for p in model.parameters()) / 1e6
                    share = 3 * operations * 1e9 * rate / peak
                    memory = torch.cuda.max_memory_allocated() / 2**30
                    loop = name + (", compiled" if compiled else "")
                    rows.append(Row(side, loop, parameters, operations, rate, share, memory, first))
                    print(
                        f"{side:4d}  {loop:22s} {parameters:6.1f} M  {operations:7.2f} GFLOP  {rate:9.0f} images/s  "
                        f"MFU {share:6.1%}  peak {memory:5.1f} GiB  first {first:5.1f} s",
                        flush=True,
                    )
                    if name == "ancestral":
                        model.eval()
                        model.sample(case.batch, steps=STEPS)
                        wait(device)
                        start = time.perf_counter()
                        model.sample(case.batch, steps=STEPS, batch=case.batch)
                        wait(device)
                        took = time.perf_counter() - start
                        share = STEPS * operations * 1e9 * case.batch / took / peak
                        drawn.append({"side": side, "loop": loop, "images_per_second": case.batch / took, "mfu": share})
                        print(f"      sampling, {STEPS} steps: {case.batch / took:9.0f} images/s  MFU {share:6.1%}", flush=True)
                    del steps, model, made
                    torch.cuda.empty_cache()
    if asked.json:
        asked.json.write_text(
            json.dumps({"card": card, "peak": peak, "training": [asdict(r) for r in rows], "sampling": drawn}, indent=1)
        )


if __name__ == "__main__":
    main()
