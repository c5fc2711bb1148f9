"""The command `ancestral evaluate RUN --likelihood`: likelihoods of a model, their terms, and the cost of each noise level."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ancestral.app.data import DataSet, load
from ancestral.app.evaluate import data_of
from ancestral.app.evaluation.likelihood import N, estimates, held_out
from ancestral.app.progress import Reporter, count
from ancestral.app.training.run import Run
from ancestral.app.training.saved import SavedModel, opened
from ancestral.errors import UsageError
from ancestral.likelihood import CHEAP, Bound
from ancestral.metrics import Estimate
from ancestral.models import HasBound

COSTLY = 100  # samples for the ODE in many dimensions: each needs a thousand derivatives of the network


@dataclass(frozen=True)
class Figure:
    """One kind of likelihood of n held-out samples. Each term is (nats, bits per dimension)."""

    kind: str
    what: str
    n: int
    nats: Estimate
    bits: Estimate
    drawn: float | None
    nfe: int
    seconds: float
    terms: dict[str, tuple[float, float]]
    table: dict[str, list[float]]


def likelihoods(subject: str, n: int | None, device: str, reporter: Reporter, against: str = "test") -> list[Figure]:
    """Compute every likelihood of the run's held-out data, or of the data `against` for a model without data.

    Raises:
        UsageError: if the model has no likelihood, or the data do not fit it.
    """
    folder = opened(subject)
    model = folder.load_model(device)
    if not isinstance(model, HasBound):
        raise UsageError(f"the model of {subject} has no likelihood, because its family has no density: leave --likelihood out")
    data = data_of(folder) if isinstance(folder, Run) else _given(against, folder, subject)
    found = []
    with reporter.live() as line:
        for method in getattr(model, "methods", (None,)):
            limit = COSTLY if method == "ode" and model.dimensions > CHEAP else N
            begun, how = time.perf_counter(), {} if method is None else {"method": method}
            bounds = held_out(model, data, n or limit, line.update, **how)
            found.append(_figure(bounds, data.spec.levels, time.perf_counter() - begun))
    return found


def _given(against: str, folder: SavedModel, subject: str) -> DataSet:
    """Load data for a model that has none. Raises UsageError if they do not fit it."""
    if against in ("test", "train"):
        raise UsageError(f"{subject} is a model without data: name some with --against SOURCE")
    spec = folder.spec
    size = (spec.shape[1], spec.shape[2]) if spec.is_image else None
    data = load(against, size=size, shape=spec.shape)
    ours, theirs = ((tuple(s.shape), s.levels) for s in (spec, data.spec))
    if ours != theirs:
        raise UsageError(f"shape and levels of {subject} are {ours}, and those of {against} {theirs}: give data of the same")
    return data


def _figure(bounds: list[Bound], levels: int | None, seconds: float) -> Figure:
    first = bounds[0]
    nats, bits = estimates(bounds, levels)
    n, unit = nats.n, first.dimensions * math.log(2)
    errors = [bound.std_err for bound in bounds if bound.std_err is not None]
    drawn = math.sqrt(torch.cat(errors).double().square().sum().item()) / n if errors else math.inf
    terms = {}
    for name in first.terms:
        mean = torch.cat([bound.terms[name] for bound in bounds]).double().mean().item()
        terms[name] = (mean, -mean / unit)
    table = {name: first.table[name].tolist() for name in ("t", "logsnr") if name in first.table}
    if table:
        weights = torch.tensor([len(bound.value) for bound in bounds], dtype=torch.float64) / n
        table["nats"] = sum(w * bound.table["nats"].double() for w, bound in zip(weights, bounds, strict=True)).tolist()
        table["bits"] = [nats / unit for nats in table["nats"]]
    return Figure(
        kind=first.kind,
        what="probability of levels" if first.discrete else "density",
        n=n,
        nats=nats,
        bits=bits,
        drawn=drawn if math.isfinite(drawn) else None,
        nfe=first.nfe,
        seconds=seconds,
        terms=terms,
        table=table,
    )


def show(subject: str, figures: list[Figure]) -> None:
    """Print the tables to standard output."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 140
    console.print(f"{subject}: log-likelihood of held-out data; bits per dimension: lower is better", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "nats", "bits/dim", "of", "samples", "evaluations each", "seconds"):
        table.add_column(name, justify="left" if name in ("", "of") else "right", no_wrap=True)
    for f in figures:
        table.add_row(
            f.kind,
            f"{f.nats.value:.3f}" + (f" ± {f.nats.std_err:.3f}" if f.nats.std_err is not None else ""),
            f"{f.bits.value:.4f}" + (f" ± {f.bits.std_err:.4f}" if f.bits.std_err is not None else ""),
            f.what,
            f"{f.n:,}",
            count(f.nfe),
            f"{f.seconds:.1f}",
        )
        for name, (nats, bits) in f.terms.items():
            table.add_row(f"  {name}", f"{nats:.3f}", f"{bits:.4f}", "", "", "", "")
    console.print(table)
    for f in figures:
        if f.drawn is not None:
            console.print(
                f"{f.kind}: the random draws of the estimate add at most {f.drawn:.3f} nats to its error", markup=False
            )
        if f.table:
            _show_levels(console, f)


def _show_levels(console: Any, f: Figure) -> None:
    from rich.table import Table

    console.print(f"\n{f.kind}: the cost of the steps down to each noise level", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("t", "log SNR", "nats", "bits/dim"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    largest = max(*f.table["nats"], 1e-12)
    for t, logsnr, nats, bits in zip(*f.table.values(), strict=True):
        bar = "━" * max(0, round(24 * nats / largest))
        table.add_row(f"{t:.3f}", f"{logsnr:.2f}", f"{nats:.3f}", f"{bits:.4f}", bar)
    console.print(table)


def saved(subject: str, figures: list[Figure], out: Path | None) -> dict[str, Any]:
    """Return the result as JSON values, and write it to `out` if that is given."""
    import json
    from dataclasses import asdict

    from ancestral.files import disk_errors, write_atomically

    result = {"subject": subject, "likelihoods": [asdict(figure) for figure in figures]}
    if out is not None:
        with disk_errors(out):
            write_atomically(out, json.dumps(result, indent=1).encode())
    return result
