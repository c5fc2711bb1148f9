"""How fast ancestral trains and samples on a CUDA GPU, which share of its arithmetic it uses, and how good three minutes are.

    python benchmarks/gpu.py --pack gpu-data                      # where the data are: writes files to take along
    python benchmarks/gpu.py --data gpu-data --json gpu.json --markdown gpu.md         # on the GPU, in 8 minutes
    python benchmarks/gpu.py --device cpu --quick --json gpu.json                      # tries every line on a CPU

Each loop trains on random pictures in memory. MFU is the model's operations (convolutions and matrix products, three times one
forward pass for a training step) over the time, as a share of the peak: the rate of a large bfloat16 matrix product or
convolution, measured in the same call. The peers are diffusers' `UNet2DModel` and a network of the kind of EDM's (ADM:
group norms with scale and shift from the noise level, attention at coarse maps), both in one tuned loop: bfloat16 autocast,
channels-last, fused AdamW, data on the device, no read of a loss between steps. The shares of a step are those of `ancestral
train --profile`. Cases are run in the order of their importance, and those for which no time is left are named.

The two trainings for three minutes run at the same time and share the card. Their distance is that of `ancestral evaluate` with
a random network (`--features`), beside that of real data: no other extractor is on a bare machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import ancestral as an
from ancestral.app.api import plan
from ancestral.app.training.profile import Profile, peak, profiled
from ancestral.runtime import Runtime

STEPS = 20  # of the sampler
PACKED = {"scenes64": 4000, "emoji": 4000}  # data sets of `--pack`, and the largest number of pictures


@dataclass(frozen=True)
class Case:
    """Pictures of `channels` and `side`, our settings, and the widths of the peers."""

    side: int
    channels: int
    batch: int
    settings: tuple[str, ...]
    diffusers: tuple[int, ...]
    layers: int
    edm: tuple[int, ...]


LARGE = ("model.channels=[160,320,480]", "model.blocks=2")
CASES = {
    28: Case(28, 1, 512, (), (32, 64, 128), 1, (32, 64)),
    64: Case(64, 3, 256, (*LARGE, "model.patch=2"), (128, 192, 320, 384), 2, (96, 192, 288, 384)),
    128: Case(128, 3, 128, (*LARGE, "model.patch=4"), (128, 192, 320, 384), 2, (96, 192, 288, 384)),
}
QUICK = {
    side: replace(
        case, side=8, batch=2, settings=("model.channels=[8,8]", "model.blocks=1"), diffusers=(32, 32), layers=1, edm=(32, 32)
    )
    for side, case in CASES.items()
}
# name of the loop, how it is compiled, and the seconds that it may take beside its measurements
LOOPS = (
    ("ancestral", "", 10),
    ("diffusers", "", 10),
    ("EDM-style", "", 10),
    ("ancestral", "default", 75),
    ("diffusers", "default", 75),
    ("EDM-style", "default", 75),
    ("ancestral", "reduce-overhead", 75),
)


@dataclass
class Row:
    """Training and sampling of a loop."""

    side: int
    batch: int
    loop: str
    parameters: float
    gflop: float
    images_per_second: float
    mfu: float
    peak_gib: float
    seconds_to_first: float
    sampled_per_second: float = 0.0
    sampling_mfu: float = 0.0
    shares: dict[str, float] | None = None


@dataclass
class Loop:
    """A training loop that was set up: its steps, its network, the GFLOP of a forward pass, and its sampler of a batch."""

    steps: Iterator[Any]
    model: nn.Module
    gflop: float
    sample: Callable[[], object]
    profiles: Sequence[Profile] = ()


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def gflop(evaluate: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        evaluate()
    return counter.get_total_flops() / 1e9


def timed(work: Callable[[], Any], seconds: float, device: str, several: int = 5) -> float:
    """How often a second."""
    done, start = 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        for _ in range(several):
            work()
        wait(device)
        done += several
    return done / (time.perf_counter() - start)


def ours(case: Case, folder: Path, mode: str, device: str) -> Loop:
    pictures = torch.randint(0, 256, (4096, case.channels, case.side, case.side), dtype=torch.uint8)
    settings = (*case.settings, f"train.batch={case.batch}", "train.previews=0", "train.checkpoint_every=100000")
    trainer = plan(pictures, budget="1000000it", out=folder, device=device, settings=(*settings, "train.compile=off")).begin()
    model = trainer.model
    x, logsnr = torch.zeros(1, case.channels, case.side, case.side, device=device), torch.zeros(1, device=device)
    operations = gflop(lambda: model.denoiser.network(x, logsnr, model.conditioner.null(1)))
    if mode:
        model.compile(mode=mode)
    found: list[Profile] = []
    steps = profiled(trainer, found.append, warm=5, measured=15)

    def sample() -> object:
        try:
            return model.eval().sample(case.batch, steps=STEPS, batch=case.batch)
        finally:
            model.train()

    return Loop(steps, model, operations, sample, found)


class Block(nn.Module):
    """A residual block of ADM's (Dhariwal & Nichol 2021; Karras et al. 2022, table 1), with attention if asked for."""

    def __init__(self, c_in: int, c_out: int, emb: int, attention: bool):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.affine = nn.Linear(emb, 2 * c_out)
        self.norm2, self.conv2 = nn.GroupNorm(32, c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.norm3 = nn.GroupNorm(32, c_out) if attention else None
        self.heads = max(1, c_out // 64)
        if attention:
            self.qkv, self.out = nn.Conv2d(c_out, 3 * c_out, 1), nn.Conv2d(c_out, c_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.affine(emb)[:, :, None, None].chunk(2, 1)
        h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), scale + 1))) + self.skip(x)
        if self.norm3 is not None:
            n, c, height, width = h.shape
            q, k, v = self.qkv(self.norm3(h)).reshape(n, 3, self.heads, c // self.heads, -1).transpose(-1, -2).unbind(1)
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(n, c, height, width)
            h = h + self.out(mixed)
        return h


class EDMStyle(nn.Module):
    """A U-Net of the kind of EDM's: `blocks` blocks at each of the widths, attention on maps of at most 16 per side."""

    def __init__(self, side: int, channels: int, widths: Sequence[int], blocks: int):
        super().__init__()
        emb = 4 * widths[0]
        self.widths = tuple(widths)
        self.embed = nn.Sequential(nn.Linear(widths[0], emb), nn.SiLU(), nn.Linear(emb, emb), nn.SiLU())
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        at, held = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            small = side // 2**level <= 16
            if level:
                self.down.append(nn.Conv2d(at, at, 3, stride=2, padding=1))
                held.append(at)
            for _ in range(blocks):
                self.down.append(Block(at, width, emb, small))
                at = width
                held.append(at)
        self.middle = nn.ModuleList([Block(at, at, emb, True), Block(at, at, emb, False)])
        for level, width in reversed(list(enumerate(widths))):
            small = side // 2**level <= 16
            for _ in range(blocks + 1):
                self.up.append(Block(at + held.pop(), width, emb, small))
                at = width
            if level:
                self.up.append(nn.Upsample(scale_factor=2, mode="nearest"))
        self.head = nn.Sequential(nn.GroupNorm(32, at), nn.SiLU(), nn.Conv2d(at, channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.widths[0] // 2
        angle = t[:, None] * torch.exp(torch.arange(half, device=t.device) * (-9.2 / half))
        emb = self.embed(torch.cat([angle.cos(), angle.sin()], 1))
        x = self.stem(x)
        held = [x]
        for layer in self.down:
            x = layer(x, emb) if isinstance(layer, Block) else layer(x)
            held.append(x)
        for block in self.middle:
            x = block(x, emb)
        for layer in self.up:
            x = layer(torch.cat([x, held.pop()], 1), emb) if isinstance(layer, Block) else layer(x)
        out: Tensor = self.head(x)
        return out


def diffusers_network(case: Case) -> nn.Module:
    from diffusers import UNet2DModel

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            levels = len(case.diffusers)
            self.inner = UNet2DModel(
                sample_size=case.side,
                in_channels=case.channels,
                out_channels=case.channels,
                layers_per_block=case.layers,
                block_out_channels=case.diffusers,
                down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
                up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
            )

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = self.inner(x, t).sample
            return out

    return Plain()


def theirs(case: Case, name: str, mode: str, device: str) -> Loop:
    network = diffusers_network(case) if name == "diffusers" else EDMStyle(case.side, case.channels, case.edm, case.layers)
    network.to(device, memory_format=torch.channels_last)
    shape = (case.channels, case.side, case.side)
    operations = gflop(lambda: network(torch.zeros(1, *shape, device=device), torch.ones(1, device=device)))
    if mode:
        network.compile(mode=mode)
    pictures = torch.randint(0, 256, (4096, *shape), dtype=torch.uint8, device=device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    average = [p.detach().clone() for p in network.parameters()]

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            out: Tensor = network(x_t.contiguous(memory_format=torch.channels_last), 1000 * t)
        return out.float()

    def steps() -> Iterator[Tensor]:
        while True:
            x = pictures[torch.randint(0, len(pictures), (case.batch,), device=device)].float() / 127.5 - 1
            t, noise = torch.rand(case.batch, device=device), torch.randn_like(x)
            x_t = (1 - t.view(-1, 1, 1, 1)) * x + t.view(-1, 1, 1, 1) * noise
            loss = F.mse_loss(velocity(x_t, t), noise - x)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad()
            torch._foreach_lerp_(average, list(network.parameters()), 0.001)
            yield loss

    @torch.no_grad()
    def sample() -> Tensor:
        x = torch.randn(case.batch, *shape, device=device)
        for i in range(STEPS):
            x = x - velocity(x, torch.full((case.batch,), 1 - i / STEPS, device=device)) / STEPS
        return x

    return Loop(steps(), network, operations, sample)


def measure(case: Case, name: str, mode: str, device: str, seconds: float, limit: float) -> Row:
    """Time a loop. limit: the peak of the device, operations a second."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        loop = ours(case, Path(folder), mode, device) if name == "ancestral" else theirs(case, name, mode, device)
        for _ in range(3):
            next(loop.steps)
        wait(device)
        first = time.perf_counter() - start
        for _ in range(20):  # of which `profiled` measures 15
            next(loop.steps)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rate = timed(lambda: next(loop.steps), seconds, device) * case.batch
        memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
        operations = loop.gflop * 1e9
        loop.sample()
        wait(device)
        drawn = timed(loop.sample, seconds / 2, device, several=1) * case.batch
    return Row(
        side=case.side,
        batch=case.batch,
        loop=name + {"": "", "default": ", compiled", "reduce-overhead": ", CUDA graphs"}[mode],
        parameters=sum(p.numel() for p in loop.model.parameters()) / 1e6,
        gflop=loop.gflop,
        images_per_second=rate,
        mfu=3 * operations * rate / limit,
        peak_gib=memory,
        seconds_to_first=first,
        sampled_per_second=drawn,
        sampling_mfu=STEPS * operations * drawn / limit,
        shares=loop.profiles[0].shares if loop.profiles else None,
    )


def quality(sources: dict[str, str], seconds: float, device: str, features: str, quick: bool) -> list[dict[str, Any]]:
    """Train on all sources at the same time for so many seconds, and evaluate what came of it."""
    program = (sys.executable, "-m", "ancestral")
    small = ("model.channels=[8,8]", "model.blocks=1", "train.batch=4") if quick else ()
    found = []
    with tempfile.TemporaryDirectory() as folder:

        def started(*words: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [*program, *words, "--device", device, "--json", "--quiet"], stdout=subprocess.PIPE, text=True
            )

        def all_ended(runs: dict[str, subprocess.Popen[str]]) -> dict[str, dict[str, Any]]:
            answers = {name: run.communicate()[0] for name, run in runs.items()}
            if wrong := [name for name, run in runs.items() if run.returncode]:
                sys.exit(f"a run failed: {', '.join(wrong)}")
            return {name: json.loads(answer) for name, answer in answers.items()}

        out = {name: str(Path(folder) / name) for name in sources}
        more = (*small, "train.previews=0")
        trained = all_ended(
            {
                name: started("train", source, *more, "--for", f"{seconds:g}s", "--out", out[name])
                for name, source in sources.items()
            }
        )
        n = "50" if quick else "1000"
        scores = all_ended({name: started("evaluate", out[name], "-n", n, "--features", features) for name in sources})
        for name in sources:
            (distance,) = [metric for metric in scores[name]["metrics"] if metric["name"] == f"fd-{features}"]
            found.append(
                {
                    "data": name,
                    "seconds": seconds,
                    "steps": trained[name]["step"],
                    "parameters": trained[name]["parameters"],
                    "fd": distance["value"]["value"],
                    "fd_of_real_data": distance["real"]["value"],
                }
            )
            print(f"  {name}: {found[-1]}", flush=True)
    return found


def packed(folder: Path, sources: dict[str, str]) -> None:
    """Write a part of each data set as uint8 pictures, which `ancestral train` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        x = an.load_data(source, size=64).train.array[: PACKED[name]]
        levels = x if x.dtype == torch.uint8 else (x * 255).round().to(torch.uint8)
        np.savez_compressed(folder / f"{name}.npz", images=levels.permute(0, 2, 3, 1).numpy())
        print(f"{folder / name}.npz: {len(x):,} pictures, {(folder / f'{name}.npz').stat().st_size / 2**20:.1f} MiB")


def table(found: dict[str, Any]) -> str:
    """The figures as tables of Markdown."""
    lines = [
        f"{found['card']}, torch {found['torch']}, ancestral {found['version']}; "
        f"peak in bf16 {found['peak'] / 1e12:.3g} TFLOP/s.",
        "",
        "| pictures, batch | loop | parameters | GFLOP | images/s | MFU | memory | sampled/s | MFU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        lines.append(
            f"| {row['side']}x{row['side']}, {row['batch']} | {row['loop']} | {row['parameters']:.1f} M | {row['gflop']:.2f} | "
            f"{row['images_per_second']:,.0f} | {row['mfu']:.0%} | {row['peak_gib']:.1f} GiB | "
            f"{row['sampled_per_second']:,.0f} | {row['sampling_mfu']:.0%} |"
        )
    if shown := [row for row in found["rows"] if row["shares"]]:
        names = list(shown[0]["shares"])
        lines += ["", "| step of | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
        for row in shown:
            label = f"{row['side']}x{row['side']}, {row['loop']}"
            lines.append(f"| {label} | " + " | ".join(f"{share:.0%}" for share in row["shares"].values()) + " |")
    if found["quality"]:
        lines += ["", "| data | training | steps | parameters | FD | FD of real data |", "|---|---|---|---|---|---|"]
        for run in found["quality"]:
            lines.append(
                f"| {run['data']} | {run['seconds']:.0f} s | {run['steps']:,} | {run['parameters'] / 1e6:.1f} M | "
                f"{run['fd']:.3g} | {run['fd_of_real_data']:.3g} |"
            )
    return "\n".join(lines + [f"\nNot measured: {name}." for name in found["left_out"]]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=7.75, help="for everything (7.75)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each timing (4)")
    parser.add_argument("--train", type=float, default=180.0, help="seconds of the trainings that are evaluated (180); 0: none")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--loops", type=int, nargs="+", default=list(range(len(LOOPS))), help="numbers of LOOPS (all)")
    parser.add_argument("--data", type=Path, help="folder of --pack; without it nothing is trained for its quality")
    parser.add_argument("--features", default="random", help="extractor of the distance (random)")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="only write scenes64 and emoji to a folder")
    parser.add_argument("--scenes", default="scenes64", help="what --pack reads as scenes64")
    parser.add_argument("--emoji", default="data/emoji", help="what --pack reads as emoji (a folder of benchmarks/emoji.py)")
    parser.add_argument("--quick", action="store_true", help="small networks, to try this script")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try this script, not to measure")
    asked = parser.parse_args()
    if asked.pack:
        packed(asked.pack, {"scenes64": asked.scenes, "emoji": asked.emoji})
        return
    device, ends = asked.device, time.perf_counter() + 60 * asked.minutes
    torch.backends.cudnn.benchmark = False
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    limit = peak(Runtime(torch.device(device), "bf16"))
    found: dict[str, Any] = {"card": card, "torch": torch.__version__, "version": an.__version__, "peak": limit}
    print(f"{card}, torch {torch.__version__}, ancestral {an.__version__}; peak in bf16 {limit / 1e12:.3g} TFLOP/s", flush=True)
    found["quality"], found["rows"], found["left_out"] = [], [], []

    def write() -> None:  # after each case, so that a machine that is taken away leaves what was measured
        if asked.json:
            asked.json.write_text(json.dumps(found, indent=1))
        if asked.markdown:
            asked.markdown.write_text(table(found))

    if asked.data and asked.train:
        sources = {name: str(asked.data / f"{name}.npz") for name in PACKED}
        found["quality"] = quality(sources, asked.train, device, asked.features, asked.quick)
        write()
    cases = QUICK if asked.quick else CASES
    for name, mode, needed in [LOOPS[i] for i in asked.loops]:
        for side in asked.sizes:
            label = f"{name} {mode} at {side}x{side}".replace("  ", " ")
            absent = name == "diffusers" and find_spec("diffusers") is None
            if absent or time.perf_counter() + needed + 3 * asked.seconds > ends:
                found["left_out"].append(label + (", which is not installed" if absent else ", for lack of time"))
                continue
            try:
                row = measure(cases[side], name, mode, device, asked.seconds, limit)
            except RuntimeError as error:  # the others are measured all the same
                found["left_out"].append(f"{label}: {str(error).splitlines()[0]}")
                print(f"{label} failed: {error}", flush=True)
                continue
            found["rows"].append(asdict(row))
            print(
                f"{side:4d}  {row.loop:24s} {row.parameters:6.1f} M  {row.gflop:7.2f} GFLOP  "
                f"{row.images_per_second:9.0f} images/s  MFU {row.mfu:6.1%}  "
                f"{row.peak_gib:5.1f} GiB  first {row.seconds_to_first:5.1f} s  "
                f"sampling {row.sampled_per_second:7.0f}/s  MFU {row.sampling_mfu:6.1%}",
                flush=True,
            )
            write()
            torch.compiler.reset()
            if device == "cuda":
                torch.cuda.empty_cache()
    write()
    print("\n" + table(found))


if __name__ == "__main__":
    main()
