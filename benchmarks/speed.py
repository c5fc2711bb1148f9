"""How fast ancestral trains, samples and starts, beside its peers.

    python benchmarks/speed.py [--seconds-per-variant 20] [--json FILE] [--only SECTION ...]

All variants of a table run in one process and take turns of about two seconds, so that a drift of the machine meets
all of them; figures are medians over turns, and the ratios are what counts. Nothing else may run meanwhile. Peak memory
and start-up are measured in processes of their own. A package that is not installed is named and left out. README.md
says how to install them and what exactly is compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import peers
from peers import Entry

STEPS = 20  # of every sampler
TOY_BATCH = 256
DIFFUSERS, DDP = "diffusers", "denoising-diffusion-pytorch"
DEFAULT, SAME_FLOPS, SAME_PARAMETERS = "ancestral, default", "ancestral, equal FLOPs", "ancestral, equal parameters"
PACKAGES = ("ancestral", "torch", "diffusers", "denoising-diffusion-pytorch", "smalldiffusion", "azula", "accelerate")


# --- measuring -----------------------------------------------------------------------


@dataclass(eq=False)
class Variant:
    """Work that repeats: one call of `unit` does `amount` of it (images, steps, calls).

    threads: of torch at its first turn; whatever a loop sets for itself is put back before each of its later turns.
    rates: amount a second, one figure a turn.
    """

    name: str
    unit: Callable[[], Any]
    amount: float = 1.0
    threads: int = field(default_factory=torch.get_num_threads)
    rates: list[float] = field(default_factory=list)

    def turn(self, units: int = 1) -> float:
        """The seconds that so many units take."""
        torch.set_num_threads(self.threads)
        start = time.perf_counter()
        for _ in range(units):
            self.unit()
        seconds = time.perf_counter() - start
        self.threads = torch.get_num_threads()
        return seconds

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def interleave(variants: Sequence[Variant], seconds: float, turn: float, *, least: int = 3) -> None:
    """Fill `rates`: about `seconds` of each variant in turns, after untimed first units.

    Each has at least `least` turns of at least one unit; one whose unit is longer than a turn takes part in fewer
    rounds, spread evenly.
    """
    threads = torch.get_num_threads()
    rounds = max(least, round(seconds / turn))
    plan = []
    for variant in variants:
        cost = variant.turn()
        cost = variant.turn() if cost < turn else cost  # the first also allocates
        units = max(1, round(seconds / rounds / cost))
        plan.append((variant, units, min(rounds, max(least, int(seconds / (units * cost))))))
    for i in range(rounds):
        for variant, units, turns in plan[i % len(plan) :] + plan[: i % len(plan)]:
            if (i + 1) * turns // rounds > i * turns // rounds:
                variant.rates.append(variant.amount * units / variant.turn(units))
    torch.set_num_threads(threads)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third; with few values they are close to the extremes."""
    first, _, third = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return first, third


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def megaflops(evaluate: Callable[[], Any]) -> float:
    """Floating-point operations of convolutions and matrix products, two for a multiply-add, in millions."""
    with FlopCounterMode(display=False) as counter:
        evaluate()
    return counter.get_total_flops() / 1e6


@contextmanager
def stopwatch(module: nn.Module) -> Iterator[list[float]]:
    """The seconds of each call of the module inside this context."""
    calls: list[float] = []
    started = 0.0

    def begin(*_: Any) -> None:
        nonlocal started
        started = time.perf_counter()

    def end(*_: Any) -> None:
        calls.append(time.perf_counter() - started)

    handles = [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes.

    On Linux from VmHWM: the kernel's ru_maxrss begins, in a child, at the size of its parent.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def child(*arguments: str) -> str:
    """The standard output of this Python with those arguments. Raises RuntimeError with the end of its complaint."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:200]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


# --- reporting -----------------------------------------------------------------------


@dataclass
class Goal:
    """A claim `measured <= wanted` or `>=`, for the last table."""

    work: str
    relation: str
    wanted: float
    measured: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.measured >= self.wanted if self.relation == ">=" else self.measured <= self.wanted


class Report:
    """Tables on standard output as they come; `values` for the JSON file, which is rewritten after each section."""

    def __init__(self, file: Path | None, head: dict[str, Any]):
        self.file = file
        self.values: dict[str, Any] = head
        self.goals: list[Goal] = []

    def section(self, name: str, values: Any) -> None:
        self.values[name] = values
        if self.file is not None:
            goals = [asdict(goal) | {"met": goal.met} for goal in self.goals]
            self.file.write_text(json.dumps(self.values | {"goals": goals}, indent=2) + "\n")

    def goal(self, work: str, relation: str, wanted: float, measured: float | None, unit: str = "x") -> None:
        if measured is not None:
            self.goals.append(Goal(work, relation, wanted, measured, unit))

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> None:
        print(f"\n## {title}\n")
        print("| " + " | ".join(columns) + " |")
        print("|" + "---|" * len(columns))
        for row in rows:
            print("| " + " | ".join(row) + " |")
        if note:
            print(f"\n{note}")
        sys.stdout.flush()

    def conclude(self) -> None:
        rows = [
            (g.work, f"{g.relation} {g.wanted:g} {g.unit}", f"{g.measured:.3g} {g.unit}", "yes" if g.met else "**no**")
            for g in self.goals
        ]
        self.table("Goals", ("work", "goal", "measured", "met"), rows)
        self.section("finished", time.strftime("%Y-%m-%d %H:%M:%S"))


def rates_of(variants: Iterable[Variant]) -> dict[str, Any]:
    return {v.name: {"median": v.rate, "turns": v.rates} for v in variants}


def rate_rows(variants: Sequence[Variant], against: Sequence[str], *details: Callable[[str], str]) -> list[list[str]]:
    """A row a variant: name, details, rate with quartiles, and the ratio to each of `against`."""
    known = {v.name: v.rate for v in variants}
    rows = []
    for v in variants:
        low, high = quartiles(v.rates)
        ratios = [f"{v.rate / known[name]:.2f}" if name in known else "-" for name in against]
        about = [detail(v.name) for detail in details]
        rows.append([v.name, *about, f"{v.rate:.4g}", f"{low:.4g}-{high:.4g}", *ratios])
    return rows


def ratio(variants: Iterable[Variant], name: str, to: str) -> float | None:
    known = {v.name: v.rate for v in variants}
    return known[name] / known[to] if name in known and to in known else None


def present(wanted: Iterable[tuple[str, str]]) -> list[str]:
    """The names of those (name, package) that are installed; a line for each that is not."""
    there = []
    for name, package in wanted:
        if missing := peers.missing(package):
            print(f"{name}: left out, not installed: {', '.join(missing)}")
        else:
            there.append(name)
    return there


# --- the line-up -----------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """The size of a network: its parameters and the millions of operations of one evaluation for one picture."""

    parameters: int
    megaflops: float


@dataclass(frozen=True)
class Lineup:
    """Who takes part in the tables on pictures, and the size of each."""

    entries: tuple[Entry, ...]
    sizes: dict[str, Size]
    batch: int
    seconds: float
    turn: float
    threads: int
    processes: int

    @classmethod
    def gather(cls, chosen: argparse.Namespace) -> Lineup:
        batch = chosen.batch
        peer_names = {DIFFUSERS: "diffusers", DDP: "denoising_diffusion_pytorch"}
        entries = [Entry(name, peer_names[name]) for name in present(peer_names.items())]
        sizes = {entry.name: measure(entry.make(batch)) for entry in entries}
        entries.append(Entry(DEFAULT, "ancestral"))
        if DIFFUSERS in sizes:
            entries += matched(sizes[DIFFUSERS])
        sizes |= {entry.name: measure(entry.make(batch)) for entry in entries if entry.package == "ancestral"}
        times = chosen.seconds_per_variant, chosen.seconds_per_turn
        return cls(tuple(entries), sizes, batch, *times, chosen.threads, chosen.processes)

    def size(self, name: str) -> list[str]:
        return [f"{self.sizes[name].parameters / 1e6:.2f} M", f"{self.sizes[name].megaflops:.0f}"]

    def details(self) -> tuple[Callable[[str], str], ...]:
        return (lambda name: self.size(name)[0], lambda name: self.size(name)[1])

    def share(self, name: str, to: str) -> float:
        """Operations of one network in units of another's."""
        return self.sizes[name].megaflops / self.sizes[to].megaflops if to in self.sizes else 1.0


def measure(subject: Any) -> Size:
    return Size(parameters(subject.network), megaflops(lambda: subject.forward(1)))


def matched(target: Size) -> list[Entry]:
    """The U-Net of ancestral without patches, of the target's operations and as near to its parameters as may be;
    and the default U-Net at the target's parameters, unless it is within a tenth of them anyway.

    Widths are multiples of 8 and of 4.
    """

    def distance(channels: tuple[int, ...]) -> float:
        network = peers.ancestral_network(patch=1, channels=channels, blocks=1)
        with torch.no_grad():
            operations = megaflops(lambda: peers.evaluate(network, torch.zeros(1, *peers.SHAPE)))
        return max(abs(operations / target.megaflops - 1), abs(parameters(network) / target.parameters - 1))

    channels = min(product((24, 32, 40), (48, 56, 64, 72, 80), (120, 128, 136, 144)), key=distance)
    widths = {width: parameters(peers.ancestral_network(width=width)) for width in range(32, 129, 4)}
    width = min(widths, key=lambda w: abs(widths[w] - target.parameters))
    default = parameters(peers.ancestral_network())
    found = [Entry(SAME_FLOPS, "ancestral", ("model.patch=1", f"model.channels={list(channels)}", "model.blocks=1"))]
    if abs(default / target.parameters - 1) > 0.1:
        found.append(Entry(SAME_PARAMETERS, "ancestral", (f"model.width={width}",)))
    return found


# --- the sections --------------------------------------------------------------------


def training(lineup: Lineup, report: Report) -> None:
    """Whole steps of each package's own loop, images a second."""
    variants = []
    for entry in lineup.entries:
        loop = entry.make(lineup.batch).train()
        variants.append(Variant(entry.name, lambda loop=loop: next(loop), lineup.batch))
    interleave(variants, lineup.seconds, lineup.turn)
    rows = rate_rows(variants, (DIFFUSERS, DDP), *lineup.details())
    report.table(
        f"Training, batch {lineup.batch}, whole loops",
        ("loop", "parameters", "MFLOP an image", "images/s", "quartiles", "x diffusers", "x ddp"),
        rows,
        "MFLOP: of one forward evaluation, two a multiply-add. ddp: denoising-diffusion-pytorch.",
    )
    same = ratio(variants, SAME_FLOPS, DIFFUSERS)
    same = same and same * lineup.share(SAME_FLOPS, DIFFUSERS)
    report.goal("training, equal FLOPs, against diffusers (corrected for the FLOPs that differ)", ">=", 2.5, same)
    for name in (DEFAULT, SAME_PARAMETERS):
        report.goal(f"training, {name}, against diffusers", ">=", 4, ratio(variants, name, DIFFUSERS))
        report.goal(f"training, {name}, against denoising-diffusion-pytorch", ">=", 8, ratio(variants, name, DDP))
    report.section("training", rates_of(variants))


def memory(lineup: Lineup, report: Report) -> None:
    """The peak of each training loop, each in a process of its own."""
    script = [str(Path(__file__).resolve()), "--batch", str(lineup.batch), "--threads", str(lineup.threads)]
    found = {e.name: json.loads(child(*script, "--peak-of", json.dumps(asdict(e)))) for e in lineup.entries}
    peaks = {name: value["peak"] for name, value in found.items()}
    base = peaks.get(DIFFUSERS)
    rows = []
    for name, peak in peaks.items():
        inside = peak - found[name]["before"]
        rows.append([name, f"{peak / 2**20:.0f}", f"{inside / 2**20:.0f}", f"{peak / base:.2f}" if base else "-"])
    columns = ("loop", "peak MiB", "of which in the loop", "x diffusers")
    report.table(f"Peak resident memory of training, batch {lineup.batch}", columns, rows)
    if base:
        for name in (DEFAULT, SAME_FLOPS, SAME_PARAMETERS):
            report.goal(f"peak memory of training, {name}", "<=", 0.6, peaks[name] / base if name in peaks else None)
    report.section("memory", found)


def peak_of(entry: Entry, batch: int, steps: int = 4) -> dict[str, int]:
    """In a child: bytes resident before the loop begins, and the peak after a few steps."""
    loop = entry.make(batch).train()
    before = psutil.Process().memory_info().rss
    for _ in range(steps):
        next(loop)
    return {"before": before, "peak": peak_memory()}


def sampling(lineup: Lineup, report: Report) -> None:
    """Pictures by DDIM in equal steps, each package's own sampler."""
    variants = []
    for entry in lineup.entries:
        subject = entry.make(lineup.batch)
        variants.append(Variant(entry.name, lambda c=subject: c.sample(lineup.batch, STEPS), lineup.batch))
    interleave(variants, lineup.seconds, lineup.turn)
    report.table(
        f"Sampling {lineup.batch} images, DDIM, {STEPS} steps",
        ("sampler", "parameters", "MFLOP an image", "images/s", "quartiles", "x diffusers", "x ddp"),
        rate_rows(variants, (DIFFUSERS, DDP), *lineup.details()),
    )
    same = ratio(variants, SAME_FLOPS, DIFFUSERS)
    same = same and same * lineup.share(SAME_FLOPS, DIFFUSERS)
    report.goal("sampling, equal FLOPs, against diffusers (corrected for the FLOPs that differ)", ">=", 2.6, same)
    report.goal("sampling, our default network, against diffusers", ">=", 4.9, ratio(variants, DEFAULT, DIFFUSERS))
    report.section("sampling", rates_of(variants))


def latency(lineup: Lineup, report: Report) -> None:
    """One evaluation of the network for one picture."""
    subjects = [(entry.name, entry.make(lineup.batch)) for entry in lineup.entries]
    variants = [Variant(name, lambda c=c: c.forward(1)) for name, c in subjects]
    interleave(variants, lineup.seconds / 8, lineup.turn / 8)
    rows = [[v.name, *lineup.size(v.name), f"{1000 / v.rate:.2f}"] for v in variants]
    report.table("Latency of one evaluation, batch 1", ("network", "parameters", "MFLOP", "ms"), rows)
    report.section("latency", rates_of(variants))


def overhead(lineup: Lineup, report: Report) -> None:
    """What solver and training loop cost beside the network, for the default network, where it weighs most."""
    outside = solver_overhead(lineup)
    beyond = loop_overhead(lineup)
    spread = ["-".join(f"{q:.2%}" for q in quartiles(values)) for values in (outside, beyond)]
    middle = [statistics.median(values) for values in (outside, beyond)]
    rows = [
        [f"DPM-Solver++, {STEPS} steps, batch {lineup.batch}: outside the network", f"{middle[0]:.2%}", spread[0]],
        ["training step: beyond bare forward, backward and fused AdamW", f"{middle[1]:.2%}", spread[1]],
    ]
    report.table(f"Overhead, {DEFAULT}", ("part", "share of the whole", "quartiles"), rows)
    report.goal("solver outside the network", "<=", 0.5, 100 * middle[0], "%")
    report.goal("training outside the network", "<=", 5, 100 * middle[1], "%")
    report.section("overhead", {"solver": outside, "loop": beyond})


def solver_overhead(lineup: Lineup) -> list[float]:
    """The share of each sampling that is not spent inside the network, both timed in the same run."""
    subject = Entry(DEFAULT, "ancestral").make(lineup.batch)
    subject.sample(lineup.batch, 2, "dpmpp")
    shares = []
    end = time.perf_counter() + lineup.seconds / 2
    while time.perf_counter() < end or len(shares) < 3:
        with stopwatch(subject.sampling_network) as calls:
            start = time.perf_counter()
            subject.sample(lineup.batch, STEPS, "dpmpp")
            whole = time.perf_counter() - start
        shares.append(1 - sum(calls) / whole)
    return shares


def loop_overhead(lineup: Lineup) -> list[float]:
    """1 - (seconds of the bare step) / (seconds of the trainer's), in pairs of short neighbouring turns."""
    entry = Entry(DEFAULT, "ancestral")
    loops = entry.make(lineup.batch).train(), entry.make(lineup.batch).bare()
    whole, bare = (Variant("", lambda loop=loop: next(loop)) for loop in loops)
    for variant in (whole, bare):
        variant.turn(2)
    units = max(1, round(lineup.turn / 2 / whole.turn()))
    shares = []
    end = time.perf_counter() + lineup.seconds
    while time.perf_counter() < end or len(shares) < 4:
        order = (whole, bare) if len(shares) % 2 else (bare, whole)
        seconds = {variant: variant.turn(units) for variant in order}
        shares.append(1 - seconds[bare] / seconds[whole])
    return shares


def startup(lineup: Lineup, report: Report) -> None:
    """Import and `--help`, medians of new processes after an untimed one."""
    n = lineup.processes
    times: dict[str, list[float]] = {}
    clock = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
    torch_first = "import torch; " + clock
    times["import torch"] = _imports(clock.format("import torch"), n)
    times["import ancestral, torch there already"] = _imports(torch_first.format("import ancestral"), n)
    loads = child("-c", "import ancestral; print(hasattr(ancestral, 'load'))").strip() == "True"
    if loads:
        times["import ancestral; ancestral.load, torch there already"] = _imports(
            torch_first.format("import ancestral; ancestral.load"), n
        )
    else:
        print("ancestral.load: not there, left out")
    times["ancestral --help"] = _help_times(n)
    rows = [[name, f"{statistics.median(values):.3f}", f"{max(values):.3f}"] for name, values in times.items()]
    report.table("Start-up, seconds", ("what", f"median of {n}", "slowest"), rows)
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name in list(times)[1:-1]:
        report.goal(name, "<=", 0.3, middle[name], "s")
    report.goal("ancestral --help", "<=", 0.5, middle["ancestral --help"], "s")
    report.section("startup", times)


def _imports(code: str, n: int) -> list[float]:
    return [float(child("-c", code)) for _ in range(n + 1)][1:]


def _help_times(n: int) -> list[float]:
    script = Path(sys.executable).with_name("ancestral")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "ancestral"]
    times = []
    for _ in range(n + 1):
        start = time.perf_counter()
        subprocess.run([*command, "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return times[1:]


def toys(lineup: Lineup, report: Report) -> None:
    """Points in the plane: steps a second, peers as they come and on one thread, which ancestral chooses by itself."""
    points = peers.moons()
    makers = {"smalldiffusion": peers.smalldiffusion_toy, "azula": peers.azula_toy}
    sizes: dict[str, int] = {}
    variants = []
    for name in present((name, name) for name in makers):
        for threads in dict.fromkeys((lineup.threads, 1)):
            network, loop = makers[name](points, TOY_BATCH)
            label = f"{name}, {threads} thread{'s' * (threads > 1)}"
            sizes[label] = parameters(network)
            variants.append(Variant(label, lambda loop=loop: next(loop), threads=threads))
    small = _toy_width(next(iter(sizes.values()))) if sizes else None
    for label, settings in ((DEFAULT, ()), (SAME_PARAMETERS, (f"model.width={small}",))):
        if small is not None or not settings:
            subject = peers.Ancestral("moons", TOY_BATCH, settings)
            sizes[label], loop = parameters(subject.network), subject.train()
            variants.append(Variant(label, lambda loop=loop: next(loop)))
    interleave(variants, lineup.seconds / 4, lineup.turn / 4)
    against = [f"{name}, {lineup.threads} thread{'s' * (lineup.threads > 1)}" for name in makers]
    rows = rate_rows(variants, against, lambda name: f"{sizes[name] / 1000:.0f} k")
    columns = ("loop", "parameters", "steps/s", "quartiles", *(f"x {name}" for name in makers))
    report.table(f"Points in the plane (moons), batch {TOY_BATCH}", columns, rows)
    for name, peer in zip(makers, against, strict=True):
        report.goal(f"2-D toys, equal parameters, against {name}", ">=", 1.5, ratio(variants, SAME_PARAMETERS, peer))
    report.section("toys", rates_of(variants))


def _toy_width(target: int) -> int:
    from ancestral.networks import denoising_network

    return min(range(16, 257, 4), key=lambda width: abs(parameters(denoising_network((2,), width=width)) - target))


SECTIONS: dict[str, Callable[[Lineup, Report], None]] = {
    section.__name__: section for section in (startup, memory, training, sampling, latency, overhead, toys)
}


# --- the command ---------------------------------------------------------------------


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load before": round(os.getloadavg()[0], 2),
    } | {name: _version(name) for name in PACKAGES}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        values = {key.strip(): value.strip() for key, value in fields.items()}
        return f"{values['model name']} (family {values.get('cpu family', '?')}, model {values.get('model', '?')})"
    except (OSError, KeyError):
        return platform.processor() or "unknown"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds-per-variant", type=float, default=20, help="of training and of sampling (20)")
    parser.add_argument("--seconds-per-turn", type=float, default=2, help="of a variant before the next one runs (2)")
    parser.add_argument("--processes", type=int, default=7, help="of which start-up is the median (7)")
    parser.add_argument("--batch", type=int, default=64, help="pictures a step and a sampling (64)")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch (2)")
    parser.add_argument("--only", nargs="+", choices=tuple(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, help="write every figure of every turn to this file")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    if chosen.peak_of:
        entry = json.loads(chosen.peak_of)
        print(json.dumps(peak_of(Entry(entry["name"], entry["package"], tuple(entry["settings"])), chosen.batch)))
        return
    began = time.perf_counter()
    here = machine(chosen.threads)
    print("# Speed\n")
    print("; ".join(f"{key} {value}" for key, value in here.items()))
    print(f"\nSynthetic uint8 pictures {peers.SHAPE} in memory; {chosen.seconds_per_variant:g} s a variant.")
    if here["load before"] > 0.5:
        print(f"\n**The machine was busy before the start (load {here['load before']}): measure alone.**")
    report = Report(chosen.json, {"machine": here, "settings": {k: str(v) for k, v in vars(chosen).items()}})
    lineup = Lineup.gather(chosen)
    report.section("sizes", {name: asdict(size) for name, size in lineup.sizes.items()})
    failed = []
    for name, section in SECTIONS.items():
        if chosen.only is None or name in chosen.only:
            try:
                section(lineup, report)
            except Exception:  # the sections are independent, and a measurement is too long to lose
                failed.append(name)
                traceback.print_exc()
            gc.collect()
    report.conclude()
    print(f"\n{time.perf_counter() - began:.0f} s in all.")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
