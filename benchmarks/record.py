"""The record: how near the samples of every family come to real data after 1, 5 and 15 minutes, on four data sets.

    python benchmarks/record.py                                     all of it: 21 hours on the machine that is to be recorded
    python benchmarks/record.py --sets digits --minutes 1 --n 500   a part
    python benchmarks/record.py --table                             what is recorded, as Markdown

Each set and each length is one `ancestral compare SOURCE --for MINUTESm --seeds 3`: every family at its defaults, without a
condition, and the baselines that need no training. A training takes the minutes by the clock; drawing and evaluating are not
part of them. One line of JSON for each family and baseline goes to `results/record.jsonl`, with the version and the machine;
what is there for this version and machine is not measured again, and a comparison that was stopped continues. Nothing else may
run meanwhile on the processor's cores that it uses.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ancestral.app.compare import compare
from ancestral.app.evaluation import Comparison
from ancestral.app.progress import Reporter
from ancestral.metrics import Estimate
from ancestral.runtime import Runtime

RESULTS = Path(__file__).parent / "results" / "record.jsonl"
SETS = {"digits": None, "fashion-mnist": None, "emoji32": 32, "scenes64": None}  # and the size to which pictures are scaled
KEY = ("version", "machine", "set", "minutes", "seeds", "n")


def source_of(name: str, folder: Path) -> str:
    """Return what `ancestral compare` takes for a set; emoji are prepared in `folder` by emoji.py."""
    if name != "emoji32":
        return name
    if not (folder / "emoji32" / "train").is_dir():
        subprocess.run([sys.executable, str(Path(__file__).parent / "emoji.py"), str(folder / "emoji32"), "--both"], check=True)
    return str(folder / "emoji32")


def machine() -> str:
    """Return the number of cores, the widest vectors and the precision of training, e.g. "2 cores, AVX512, bf16"."""
    precision = Runtime.choose("cpu", parameters=1_000_000).precision  # of networks that are not tiny
    cores = torch.get_num_threads()
    return f"{cores} core{'s' * (cores > 1)}, {torch.backends.cpu.get_cpu_capability()}, {precision}"


def rows(found: Comparison, about: dict[str, object]) -> list[dict[str, object]]:
    """Return a row for each family and baseline, with its distances as [value, error, that of real data]."""
    out = []
    for subject in found.subjects:
        one = subject.evaluation
        kept = {
            metric.name: [metric.value.value, metric.value.std_err, metric.real and metric.real.value]
            for metric in one.metrics
            if metric.kind in ("fd", "mmd", "recall", "copy-rate")
        }
        cost = {} if subject.baseline else {name: one.cost[name] for name in ("images", "samples_per_second", "parameters")}
        row = {"subject": subject.name, "baseline": subject.baseline, "trainings": one.trainings, "metrics": kept}
        out.append(about | row | {"cost": cost})
    return out


def tables(recorded: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the heading and the lines of a Markdown table for each set, length, number of samples, machine and version."""
    groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in recorded:
        groups.setdefault(tuple(row[key] for key in KEY), []).append(row)
    for key in sorted(groups, key=lambda key: (list(SETS).index(str(key[KEY.index("set")])), key)):
        group = sorted(groups[key], key=lambda row: row["metrics"]["fd-efficientnet"][0])
        of = dict(zip(KEY, key, strict=True))
        time, trainings = (
            f"{n:g} {thing}{'s' * (n != 1)}" for n, thing in ((of["minutes"], "minute"), (of["seeds"], "training"))
        )
        heading = f"{of['set']}, {time} of {of['machine']}, {trainings}, {of['n']:,} samples, version {of['version']}"
        names = [name for name in group[0]["metrics"] if name.startswith(("fd-", "recall-"))]
        lines = [
            f"| | {' | '.join([*names, 'copy-rate', 'images seen', 'samples a second'])} |",
            f"|{'---|' * (len(names) + 4)}",
        ]
        real = [f"{group[0]['metrics'][name][2]:.3g}" for name in names]
        real.append(f"{group[0]['metrics']['copy-rate'][2]:.1%}")
        lines.append(f"| real data | {' | '.join(real)} | | |")
        for row in group:
            figures = [str(Estimate(*row["metrics"][name][:2], row["n"])) for name in names]
            figures.append(f"{row['metrics']['copy-rate'][0]:.1%}")
            cost = [f"{row['cost'][name]:,.0f}" if row["cost"] else "" for name in ("images", "samples_per_second")]
            name = f"*{row['subject']}*" if row["baseline"] else f"**{row['subject']}**"
            lines.append(f"| {' | '.join([name, *figures, *cost])} |")
        yield heading, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 15])
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each family (3)")
    parser.add_argument("--n", type=int, default=2000, help="samples of each model (2000)")
    parser.add_argument("--work", type=Path, default=Path("runs/record"), help="where runs and prepared data lie (runs/record)")
    parser.add_argument("--machine", help="the name of this machine (default: its cores, vectors and precision)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="measure nothing; print the record as Markdown")
    asked = parser.parse_args()
    here = {"version": version("ancestral"), "machine": asked.machine or machine()}
    known = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.is_file() else []
    if asked.table:
        print("\n\n".join("\n".join([f"**{heading}**", "", *lines]) for heading, lines in tables(known)))
        return
    for name in asked.sets:
        for minutes in asked.minutes:
            about = here | {"set": name, "minutes": minutes, "seeds": asked.seeds, "n": asked.n}
            mine = [row for row in known if all(row[key] == about[key] for key in KEY)]
            if not mine:
                folder = asked.work / f"{name}-{minutes:g}m"
                found = compare(
                    source_of(name, asked.work),
                    budget=f"{60 * minutes:g}s",
                    seeds=asked.seeds,
                    n=asked.n,
                    size=SETS[name],
                    out=folder,
                    reporter=Reporter(quiet=False),
                )
                assert found is not None  # this is the only process
                mine = rows(found[0], about)
                with asked.out.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in mine)
            for row in mine:
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
