"""Pictures of a latent space, for `ancestral sample`: interpolation, traversal of axes, map, reconstruction of data.

They need a model with a decoder (`HasDecoder`). The pictures that begin with data also need an encoder (`HasLatent`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ancestral.app.sampling.latents import decoded, latents, require
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel, HasDecoder, HasLatent

if TYPE_CHECKING:
    from PIL.Image import Image

    from ancestral.app.data import DataSet
    from ancestral.app.data.spec import DataSpec
    from ancestral.app.progress import Reporter
    from ancestral.app.sampling.walk import Walk
    from ancestral.app.training.saved import Opened

COLUMNS = 9  # pictures in a row
ROWS = 8  # axes that a traverse shows
SIDE = 15  # pictures on each side of the map of two latents
SHOWN = 32  # samples that are reconstructed
POINTS = 2000  # samples on the map of more than two latents


def draw(
    wish: str,
    value: Any,
    model: GenerativeModel,
    folder: Opened,
    out: Path,
    *,
    seeds: list[int],
    condition: Any,
    prior: str | None,
    reporter: Reporter,
    json: bool,
) -> None:
    """Draw the picture of kind `wish` into `out` and report its path. If `json`, also print its facts as JSON."""
    from ancestral.app.pictures import save
    from ancestral.app.progress import emit
    from ancestral.files import disk_errors

    spec, drawn_from = folder.spec, {"prior": prior} if prior else {}
    facts: dict[str, Any] = {"out": str(out)}
    if wish == "reconstruct":
        image, facts["error"] = reconstruct(model, spec, value, min(len(seeds), SHOWN))
        reporter.say(f"root mean squared error {facts['error']:.4f}, in the units of the data")
    elif wish == "latent-map":
        image = latent_map(model, folder, condition)
    else:
        image = traverse(model, spec, seeds[0], condition, drawn_from)
    with disk_errors(out.parent):
        save(image, out)
    reporter.say(f"{out.stem.replace('-', ' ')}: {out}")
    if json:
        emit(facts)


def walk(
    walk: Walk, model: GenerativeModel, folder: Opened, out: Path, *, metadata: bool, reporter: Reporter, json: bool
) -> None:
    """Draw a walk between seeds into `out`: a .png that carries how it was made, or a film .gif."""
    from ancestral.app.cli.conditions import as_options
    from ancestral.app.pictures import save, save_animation
    from ancestral.app.progress import emit
    from ancestral.app.sampling.provenance import record
    from ancestral.files import disk_errors

    with as_options():
        x = torch.cat(list(walk.frames(model, folder.spec)))
    with disk_errors(out.parent):
        if out.suffix.lower() == ".gif":
            save_animation(walk.film(x, folder.spec), out)
        else:
            about = record(walk.request, folder, walk.arrangement).chunks() if metadata else {}
            save(walk.picture(x, folder.spec), out, about)
    reporter.say(f"{len(x)} pictures between {len(walk.seeds)} seeds: {out}")
    if json:
        emit({"out": str(out), "n": len(x), **walk.arrangement})


def traverse(model: GenerativeModel, spec: DataSpec, seed: int, condition: Any, prior: dict[str, Any]) -> Image:
    """Draw one sample while one latent goes from -3 to 3. Each of the most active latents has a row."""
    z = latents(model, [seed], condition, prior).flatten(1)
    activity = getattr(model, "activity", None)
    axes = range(z.shape[1]) if activity is None else activity.argsort(descending=True, stable=True).tolist()
    chosen, values = list(axes)[:ROWS], torch.linspace(-3, 3, COLUMNS)
    rows = []
    for j in chosen:
        row = z.repeat(COLUMNS, 1)
        row[:, j] = values
        rows.append(row)
    labels, across = [f"latent {j + 1}" for j in chosen], [f"{value:g}" for value in values.tolist()]
    return picture(decoded(model, torch.cat(rows), condition), spec, rows=labels, across=across)


def latent_map(model: GenerativeModel, folder: Opened, condition: Any) -> Image:
    """Draw a map of the latent space.

    For two latents: decoded samples on a grid of the prior's quantiles (Kingma & Welling 2014, figure 4). For more: the
    encoded data along their first two principal axes, coloured by class.
    """
    decoder = require(model, HasDecoder, "--latent-map")
    spec = folder.spec
    if tuple(decoder.latent_shape) == (2,):
        quantiles = torch.special.ndtri((torch.arange(SIDE) + 0.5) / SIDE)
        z = torch.cartesian_prod(-quantiles, quantiles).flip(1).to(model.device)
        across = [f"{value:.1f}" for value in quantiles.tolist()]
        return picture(decoded(model, z, condition), spec, SIDE, rows=across[::-1], across=across)
    encoder = require(model, HasLatent, "--latent-map of more than two latents")
    from ancestral.app.evaluate import data_of
    from ancestral.app.training.saved import SavedModel

    if isinstance(folder, SavedModel):
        raise UsageError("--latent-map shows the data of a run, and a saved model has none: give the run")
    data = data_of(folder).encoded(model.conditioner)
    index = torch.linspace(0, len(data.train) - 1, min(POINTS, len(data.train)), dtype=torch.float64).long()
    batch = data.batch(index)
    with model.inference():
        z = torch.cat([encoder.encode(x.to(model.device), _known(model, x, c)) for x, c in _parts(batch.x, batch.conditions)])
    z = z.flatten(1).cpu() - z.flatten(1).mean(0).cpu()
    _, _, axes = torch.linalg.svd(z, full_matrices=False)
    return _scatter(z @ axes[:2].T, batch.conditions.get("class"), spec)


def reconstruct(model: GenerativeModel, spec: DataSpec, source: str, n: int) -> tuple[Image, float]:
    """Draw rows of the first n samples of a source, each above a row of their reconstructions.

    Returns:
        The picture, and the root mean squared error in the units of the data.
    """
    coder = require(model, HasLatent, "--reconstruct")
    from ancestral.app.data import load

    try:
        data = load(source, size=(spec.shape[1], spec.shape[2]) if spec.is_image else None, shape=spec.shape)
    except UsageError:
        data = load(source, shape=spec.shape)  # vectors have no size; if they do not fit, `_fitted` says why
    if data.spec.fingerprint == spec.fingerprint:
        data = data.encoded(model.conditioner)
    batch = data.batch(torch.arange(min(n, len(data.train))))
    x = _fitted(batch.x, spec, data).to(model.device)
    condition = _known(model, x, batch.conditions)
    with model.inference():
        y = coder.decode(coder.encode(x, condition), condition)
    columns = min(COLUMNS - 1, len(x))
    rows = [part for a, b in zip(x.split(columns), y.split(columns), strict=True) for part in (a, b)]
    if len(rows[-1]) < columns:  # fill the last row, so that each picture is above its reconstruction
        rows = [torch.cat([row, row.new_full((columns - len(row), *row.shape[1:]), torch.nan)]) for row in rows]
    labels = ["data", "reconstruction"] * (len(rows) // 2)
    return picture(torch.cat(rows), spec, columns, rows=labels), float((x - y).square().mean().sqrt())


def picture(x: Tensor, spec: DataSpec, columns: int = COLUMNS, rows: Sequence[str] = (), across: Sequence[str] = ()) -> Image:
    from ancestral.app.pictures import grid

    return grid(x.cpu(), spec, columns, rows=rows, across=across)


def _fitted(x: Tensor, spec: DataSpec, data: DataSet) -> Tensor:
    """Return the samples in the model's shape. Grey becomes colour or colour grey if needed.

    Raises:
        UsageError: if the shapes differ otherwise.
    """
    if spec.is_image and x.ndim == 4 and x.shape[2:] == spec.shape[1:] and {x.shape[1], spec.shape[0]} == {1, 3}:
        x = x.mean(1, keepdim=True).expand(-1, spec.shape[0], -1, -1)
    if tuple(x.shape[1:]) != spec.shape:
        raise UsageError(f"samples of {data.spec.name} have shape {tuple(x.shape[1:])}, those of the model {spec.shape}")
    return x


def _known(model: GenerativeModel, x: Tensor, conditions: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the conditions of the samples x that the model knows."""
    return {name: c[: len(x)] for name, c in conditions.items() if name in model.conditioner.kinds}


def _parts(x: Tensor, conditions: dict[str, Tensor], size: int = 256) -> list[tuple[Tensor, dict[str, Tensor]]]:
    starts = range(0, len(x), size)
    return [(x[i : i + size], {name: c[i : i + size] for name, c in conditions.items()}) for i in starts]


def _scatter(points: Tensor, labels: Tensor | None, spec: DataSpec) -> Image:
    """Plot points `(n, 2)` coloured by class, with a legend."""
    from matplotlib.figure import Figure

    from ancestral.app.plots import render

    figure = Figure(figsize=(6.4, 5.2), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    groups = [None] if labels is None or not spec.classes else range(len(spec.classes))
    for group in groups:
        chosen = points if group is None or labels is None else points[labels == group]
        name = None if group is None else spec.classes[group]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=6, alpha=0.7, linewidths=0, label=name, color=f"C{group or 0}")
    if groups != [None]:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=3)
    axes.set(xlabel="first principal axis of the latents", ylabel="second")
    return render(figure)
