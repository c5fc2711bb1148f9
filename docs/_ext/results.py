"""The figures of the page of results, each drawn from files in benchmarks/results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ancestral.app.plots import COLOURS

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
OURS, THEIRS, GREY = COLOURS[0], "#a8a29e", "#57534e"


def stored(name: str) -> Any:
    text = (RESULTS / name).read_text()
    return [json.loads(line) for line in text.splitlines()] if name.endswith(".jsonl") else json.loads(text)


def families(path: str) -> None:
    """Distance of the five families and of baselines on each data set of the record, after the longest time that is there."""
    found: dict[str, list[Any]] = {}
    for row in stored("record.jsonl"):
        mine = found.setdefault(row["set"], [])
        if not mine or row["minutes"] > mine[0]["minutes"]:
            mine.clear()
        if not mine or row["minutes"] == mine[0]["minutes"]:
            mine.append(row)
    order = ["kernel", "gaussian", "mixture", "score", "diffusion", "vae", "gan", "latent"]
    figure = Figure(figsize=(8.6, 3.0), dpi=150, layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found.items(), strict=True):
        for row in rows:
            if row["subject"] in order:
                value, error, real = row["metrics"]["fd-efficientnet"]
                colour = THEIRS if row["baseline"] else OURS
                axes.errorbar(value, order.index(row["subject"]), xerr=error, fmt="o", color=colour, capsize=3, markersize=5)
        axes.axvline(real, color=GREY, linewidth=0.8, linestyle=":")
        minutes = rows[0]["minutes"]
        axes.set_title(f"{name}, {minutes:g} minute{'s' * (minutes != 1)}", fontsize=10)
        axes.set(xscale="log", xlabel="fd-efficientnet", ylim=(-0.6, len(order) - 0.4))
        axes.set_yticks(range(len(order)), order)
        _plain(axes, log="x")
    figure.savefig(path)


def peer(path: str) -> None:
    """Distance of the default and of diffusers' network in the same loop after the same time, by trainings."""
    rows = stored("tuned_peer.jsonl")
    figure = Figure(figsize=(8.2, 2.0), dpi=150, layout="constrained")
    labels = {"ours": "ancestral, default", "diffusers": "diffusers' UNet2DModel, tuned"}
    for axes, extractor in zip(figure.subplots(1, 2, sharey=True), ("fd-classifier", "fd-efficientnet"), strict=True):
        for i, network in enumerate(("diffusers", "ours")):
            values = [row[extractor][0] for row in rows if row["network"] == network]
            colour = OURS if network == "ours" else THEIRS
            axes.barh(i, mean(values), xerr=stdev(values), color=colour, height=0.6, capsize=3, ecolor=GREY)
            axes.plot(values, [i] * len(values), "o", color="#1c1917", markersize=3)
            axes.annotate(
                f"{mean(values):.3g} ± {stdev(values):.2g}",
                (0, i),
                (6, 0),
                textcoords="offset points",
                va="center",
                color="white" if network == "ours" else "#1c1917",
                fontsize=9,
            )
        axes.axvline(rows[0][extractor][2], color=GREY, linewidth=0.8, linestyle=":")
        axes.set(xlabel=f"{extractor} (dotted: real data)", yticks=[0, 1])
        axes.set_yticklabels([labels["diffusers"], labels["ours"]])
        _plain(axes)
    figure.savefig(path)


def speed(path: str) -> None:
    """Images a second in training and sampling, and peak memory of training, of whole loops."""
    found = stored("speed.json")
    names = {
        "ancestral, default": "ancestral, default",
        "ancestral, equal parameters": "ancestral, equal parameters",
        "ancestral, equal FLOPs": "ancestral, equal FLOPs",
        "diffusers": "diffusers",
        "denoising-diffusion-pytorch": "denoising-diffusion-pytorch",
    }
    panels = [
        ("training, images a second", [found["training"][name]["median"] for name in names]),
        ("sampling in 20 steps, images a second", [found["sampling"][name]["median"] for name in names]),
        ("peak memory of training, MB", [found["memory"][name]["peak"] / 1e6 for name in names]),
    ]
    figure = Figure(figsize=(8.2, 2.4), dpi=150, layout="constrained")
    for axes, (label, values) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        bars = axes.barh(range(len(names)), values, color=[OURS if name.startswith("anc") else THEIRS for name in names])
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axes.set(xlabel=label, xlim=(0, max(values) * 1.25))
        axes.set_yticks(range(len(names)), list(names.values()))
        axes.invert_yaxis()
        _plain(axes)
    figure.savefig(path)


def control(path: str) -> None:
    """Share of samples that follow their condition, beside real data and chance."""
    rows = [
        ("class of a garment", "control-class.json", "classes", "class", "guidance 1.5"),
        ("digit in its box", "control-layout.json", "held-out combinations", "box holds its digit", "guidance 2"),
        ("digit by a semantic map", "control-map.json", "held-out combinations", "box holds its digit", "guidance 2"),
        ("emoji's style by text", "control-emoji.json", "held-out combinations without a skin tone", "style", "guidance 2"),
        (
            "emoji's category by text",
            "control-emoji.json",
            "held-out combinations without a skin tone",
            "category",
            "guidance 2",
        ),
        ("all digits named by text", "control-text.json", "held-out combinations", "just the things named", "guidance 2"),
    ]
    figure = Figure(figsize=(6.8, 2.9), dpi=150, layout="constrained")
    axes = figure.subplots()
    for i, (_, name, group, measure, guidance) in enumerate(reversed(rows)):
        found = stored(name)[group]
        marks = [
            ("real data", found["real data"], "D", COLOURS[2]),
            ("samples", found[f"samples, {guidance}"], "o", OURS),
            ("chance", found["real data, of another condition"], "|", GREY),
        ]
        for label, of, marker, colour in marks:
            share = of[measure]
            axes.errorbar(
                100 * share["share"],
                i,
                xerr=100 * share["std_err"],
                fmt=marker,
                color=colour,
                capsize=2,
                markersize=6,
                label=label if i == 0 else None,
            )
    axes.set_yticks(range(len(rows)), [row[0] for row in reversed(rows)])
    axes.set(xlabel="share of samples that follow the condition, %", xlim=(-2, 102))
    axes.grid(axis="y", color="#e7e5e4")
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    _plain(axes)
    figure.savefig(path)


def copies(path: str) -> None:
    """Share of copies of small sets, with and without the watch."""
    found = stored("memorisation.json")["sets"]
    names = [row["set"] for row in found if row["watch"] == "off"]
    names.sort(key=lambda name: -next(row["relative"] for row in found if row["set"] == name and row["watch"] == "off"))
    figure = Figure(figsize=(6.8, 2.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for offset, watch, label, colour in ((-0.18, "off", "without the watch", THEIRS), (0.18, "stop", "default", OURS)):
        values = [
            100 * next(row["relative"] for row in found if row["set"] == name and row["watch"] == watch) for name in names
        ]
        bars = axes.barh([i + offset for i in range(len(names))], values, height=0.34, color=colour, label=label)
        axes.bar_label(bars, fmt="{:.1f}", padding=3, fontsize=8)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="copies among the samples, % (dotted: expected of new data)", xlim=(0, 105))
    axes.set_yticks(range(len(names)), [re.sub(r" (\d+)$", r", \1 samples", name) for name in names])
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _plain(axes)
    figure.savefig(path)


def verdicts(path: str) -> None:
    """How often the verdict of a comparison decides, and how often it is wrong, by the true difference."""
    found = stored("verdicts.json")["both"]
    groups = {
        "equal models": ["equal"],
        "unlike, equally far": ["unlike"],
        "2 D apart": ["gap 2 above 0", "gap 2 above 3"],
        "4 D apart": ["gap 4 above 0", "gap 4 above 3"],
        "8 D apart": ["gap 8 above 0", "gap 8 above 3"],
    }
    figure = Figure(figsize=(6.8, 2.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for i, members in enumerate(groups.values()):
        total = sum(found[name]["comparisons"] for name in members)
        right = 100 * sum(found[name]["decided"] for name in members) / total
        wrong = 100 * sum(found[name]["wrong"] for name in members) / total
        axes.barh(i, right, color=OURS, height=0.6, label="found the better one" if i == 1 else None)
        axes.barh(i, wrong, left=right, color="#dc2626", height=0.6, label="wrong" if i == 1 else None)
        axes.annotate(
            f"{right:.0f} % found, {wrong:.0f} % wrong, of {total}",
            (right + wrong, i),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set(xlabel="verdicts, %", xlim=(0, 150), xticks=[0, 20, 40, 60, 80, 100])
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    _plain(axes)
    figure.savefig(path)


def _plain(axes: Axes, log: str = "") -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(8.5)
    axes.yaxis.label.set_fontsize(8.5)
    if log:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
