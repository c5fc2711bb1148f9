"""The command `ancestral verify`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.console import Console

    from ancestral.app.theory import Claim, Sides, Verdict

WIDTH = 132  # if the output is not a terminal


def verify(
    *names: str,
    explain: bool = False,
    draw: Path | None = None,
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q", negative=())] = False,
) -> int:
    """Compute both sides of every equation of the theory, and check that they agree.

    It uses the functions that also train and sample. The exit code is 0 if all claims hold, and 1 if one fails.

    Example: `ancestral verify vae`, or `ancestral verify --explain gan.optimal-discriminator`

    Parameters
    ----------
    names
        Families and claims, or the first letters of their names, e.g. vae or gan.optimal-discriminator. Default: all.
    explain
        Print why these claims hold, and which lines of code compute them. Nothing is computed.
    draw
        Folder for a picture of each claim that can be drawn, CLAIM.png. Dots are the left side, lines the right side.
    json
        Print the result as JSON.
    quiet
        Print only the claims that fail.
    """
    from rich.console import Console

    from ancestral.app.progress import Reporter, emit
    from ancestral.app.theory import K, select
    from ancestral.errors import UsageError

    claims = select(names)
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH
    if explain:
        if draw is not None:
            raise UsageError("--explain computes nothing that could be drawn: leave one of --explain and --draw out")
        if json:
            emit({"claims": [_explained(c) for c in claims]})
        else:
            for c in claims:
                _explain(console, c)
        return 0
    verdicts = []
    with Reporter(quiet=quiet or json).live() as line:
        for i, c in enumerate(claims):
            line.update(f"{i}/{len(claims)}  {c.name}: {c.title}")
            verdicts.append(c.verify())
    pictures = _draw(draw, verdicts) if draw is not None else {}
    if json:
        rows = [_verdict(v) | {"picture": pictures.get(v.claim.name)} for v in verdicts]
        emit({"k": K, "holds": all(v.holds for v in verdicts), "claims": rows})
    else:
        _print(console, [v for v in verdicts if not (quiet and v.holds)], verdicts)
        if draw is not None and not quiet:
            console.print(f"{len(pictures)} pictures: {draw}", markup=False, soft_wrap=True)
    return 0 if all(v.holds for v in verdicts) else 1


def _draw(folder: Path, verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Draw a picture of each verdict that has one, and return the files by name of the claim."""
    from ancestral.app.pictures import save
    from ancestral.app.theory.pictures import draw
    from ancestral.files import disk_errors

    drawn = {}
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for verdict in verdicts:
            if (picture := draw(verdict)) is not None:
                path = folder / f"{verdict.claim.name}.png"
                save(picture, path, {})
                drawn[verdict.claim.name] = str(path)
    return drawn


def _print(console: Console, shown: Sequence[Verdict], all_: Sequence[Verdict]) -> None:
    from rich.table import Table
    from rich.text import Text

    from ancestral.app.theory import HEADER, K

    if shown:
        table = Table(box=None, pad_edge=False, header_style="bold")
        first, *middle, last = HEADER
        table.add_column(first, ratio=1)
        for name in middle:
            table.add_column(name, justify="center" if not name else "right", no_wrap=True)
        table.add_column(last, no_wrap=True)
        family = ""
        for verdict in shown:
            if verdict.claim.family != family:
                if family:
                    table.add_row()
                family = verdict.claim.family
            table.add_row(Text.assemble((verdict.claim.name, "bold cyan"), "  ", verdict.claim.title))
            for s in verdict.sides:
                what, *numbers, said = s.cells
                table.add_row(Text(f"  {what}"), *numbers, Text(said, "green" if s.holds else "bold red"))
        console.print(table)
    failed = [v.claim.name for v in all_ if not v.holds]
    equations, seconds = sum(len(v.sides) for v in all_), sum(v.seconds for v in all_)
    said = f"{len(all_) - len(failed)} of {len(all_)} claims hold, {equations} comparisons, {seconds:.0f} s"
    console.print(f"\n{said}{'; these fail: ' + ', '.join(failed) if failed else ''}", markup=False, soft_wrap=True)
    rule = f"left = right: |difference| ≤ {K:g} standard errors (±) + a tolerance for rounding and steps; ≤ likewise, one-sided"
    console.print(rule, style="dim", markup=False, soft_wrap=True)


def _explain(console: Console, c: Claim) -> None:
    """Print a claim's title, derivation with equations, source, and the lines of its code."""
    from rich.panel import Panel
    from rich.text import Text

    body = Text()
    for block in c.derivation.split("\n\n"):
        if block.startswith("    "):
            body.append(block + "\n\n", style="bold")
        else:
            body.append(" ".join(block.split()) + "\n\n")  # the terminal wraps it to its width
    body.append("source  ", style="dim").append(c.source)
    for where in c.lines:
        body.append("\ncode    ", style="dim").append(where)
    title = Text.assemble((c.name, "bold cyan"), "  ", c.title)
    console.print(title, "", sep="\n")
    console.print(Panel(body, padding=(1, 2), title_align="left", border_style="dim"))


def _explained(c: Claim) -> dict[str, Any]:
    return {"name": c.name, "title": c.title, "derivation": c.derivation, "source": c.source, "code": c.lines}


def _verdict(v: Verdict) -> dict[str, Any]:
    sides = [_sides(s) for s in v.sides]
    return {"name": v.claim.name, "title": v.claim.title, "holds": v.holds, "seconds": v.seconds, "sides": sides}


def _sides(s: Sides) -> dict[str, Any]:
    """Return the numbers of a comparison as JSON values. If there are many points, they are those of the worst."""
    i = s.worst
    return {
        "of": s.along.of if s.along else None,
        "what": s.what,
        "left": s.left[i].item(),
        "relation": "=" if s.relation == "=" else "<=",
        "right": s.right[i].item(),
        "difference": s.difference[i].item(),
        "std_err": s.std_err[i].item(),
        "allowed": s.allowed[i].item(),
        "points": len(s.left),
        "holds": s.holds,
    }
