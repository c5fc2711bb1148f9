"""The command `ancestral info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def info(
    run: Annotated[Path, Parameter(group="Arguments")],
    *,
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Show what a run is and how its training went.

    Its model and data, its state, its quality if it was evaluated, notes and findings, and the curve of the loss.

    Example: `ancestral info runs/digits`

    Parameters
    ----------
    run
        Run folder, e.g. runs/digits.
    json
        Print the result as JSON.
    quiet
        Print one line only.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ancestral.app.overview import facts as facts_of
    from ancestral.app.overview import health
    from ancestral.app.progress import count, duration, emit
    from ancestral.app.recipes.own import OwnRecipe
    from ancestral.app.training.run import Run
    from ancestral.configuration import foreign_modules
    from ancestral.errors import printable

    folder = Run.existing(run)
    facts = facts_of(folder)
    if json:
        emit(facts)
        return 0
    console = Console(highlight=False, soft_wrap=True)
    state = (
        "finished"
        if facts["progress"] >= 1
        else f"{facts['progress']:.0%} done; the same `ancestral train` command continues it"
    )
    if quiet:
        console.print(printable(f"{run}: {facts['family']} of {facts['data']['name']}, {state}"), markup=False)
        return 0
    data = facts["data"]
    shape = "x".join(map(str, data["shape"]))
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")  # a long path is not cut
    rows = {
        "run": f"{run}, {state}",
        "model": f"{facts['family']}, {count(facts['parameters'])} parameters",
        "data": f"{data['name']}: {data['size']:,} samples of {shape}, {data['kind']}"
        + (f", {len(data['classes'])} classes" if data["classes"] else ""),
        "trained": f"{facts['step']:,} steps, {count(facts['images'])} images, {duration(facts['seconds'])}",
        "condition": ", ".join(facts["conditions"]) or "none",
        "skipped": f"{facts['skipped']} steps that were not finite" if facts["skipped"] else "no step",
        "preview": facts["preview"] or "none yet",
    }
    rows |= {"sampler": facts["sampler"]} if facts["sampler"] else {}
    how = f"ancestral report {run}"
    if isinstance(model := folder.recipe.model, OwnRecipe) and (foreign := foreign_modules(model.config)):
        given = ", ".join(f"{name.rpartition('.')[2]!r}: {made}(...)" for name, made in foreign.items())
        given = given.partition(": ")[2] if len(foreign) == 1 else f"{{{given}}}"
        how = f"in Python `ancestral.report({str(run)!r}, network={given})`, since no file holds the code of your network"
    rows["quality"] = facts["quality"] or f"not evaluated yet: {how}"
    if facts["copies"]:
        found = facts["copies"]
        rows["copies"] = (
            f"{found['copies/rate']:.1%} of {found['copies/n']:,} samples at step {found['step']:,}, and "
            f"{found['copies/expected']:.1%} of new data"
        )
    rows |= _health(facts["health"])
    rows |= {"training" + " " * i: sentence.text for i, sentence in enumerate(health(folder))}
    rows |= {"note" + " " * i: note for i, note in enumerate(facts["notes"])}
    for name, value in rows.items():
        table.add_row(Text(name, "bold"), Text(printable(value)))
    console.print(table)
    if facts["curve"]:
        console.print()
        console.print(_curve(facts["curve"]), markup=False)
    return 0


def _health(numbers: dict[str, Any]) -> dict[str, str]:
    """Return the rows of the model's last diagnosis. Numbers of one kind, such as kl/0 and kl/1, make one row of bars."""
    single = {name: v for name, v in numbers.items() if "/" not in name and v is not None}
    rows = {"health": "  ".join(f"{name} {v:.4g}" for name, v in single.items())} if single else {}
    for kind in dict.fromkeys(name.partition("/")[0] for name in numbers if "/" in name):
        values = [v or 0.0 for name, v in numbers.items() if name.startswith(f"{kind}/")]
        top = max([*values, 1e-9])
        bars = "".join("▁▂▃▄▅▆▇█"[round(7 * max(0.0, v) / top)] for v in sorted(values, reverse=True))
        rows[f"{kind} each"] = f"{bars}  {max(values):.3g} to {min(values):.2g}"
    return rows


def _curve(points: list[tuple[int, float]], width: int = 64, height: int = 8) -> str:
    """Draw the loss against steps in characters: medians over equal intervals, on a logarithmic axis if all are positive."""
    import math
    from itertools import pairwise
    from statistics import median

    values = [value for _, value in points if math.isfinite(value)]
    if len(values) < 2:
        return ""
    columns = min(width, len(values))
    cuts = [round(i * len(values) / columns) for i in range(columns + 1)]
    means = [median(values[a:b]) for a, b in pairwise(cuts)]
    scale, back = (math.log, math.exp) if min(means) > 0 else (float, float)
    low, high = scale(min(means)), scale(max(means))
    span = max(high - low, 1e-9)
    rows = [[" "] * columns for _ in range(height)]
    for x, value in enumerate(means):
        eighths = round((scale(value) - low) / span * (height * 8 - 1)) + 1
        for y in range(height):
            fill = min(8, max(0, eighths - 8 * y))
            rows[height - 1 - y][x] = " ▁▂▃▄▅▆▇█"[fill]
    labels = [f"{back(high):8.4f}"] + [" " * 8] * (height - 2) + [f"{back(low):8.4f}"]
    lines = [f"{label} │{''.join(row)}" for label, row in zip(labels, rows, strict=True)]
    last = f"step {points[-1][0]:,}"
    return "\n".join(["loss per dimension", *lines, " " * 9 + "└" + "─" * columns, " " * 10 + last.rjust(columns)])
