"""Export of a model into a folder that other runtimes can run."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ancestral import runner as runner_module
from ancestral.app.export.diffusers import write_pipeline
from ancestral.app.export.formats import NEEDED, Format, check_packages, write
from ancestral.app.export.graphs import N, Plan, Sampler, described, plan
from ancestral.app.export.texts import write_readers
from ancestral.app.export.web import check as check_pictures
from ancestral.app.export.web import write_page
from ancestral.app.leftovers import remove_leftovers
from ancestral.app.progress import Reporter
from ancestral.app.sampling import SampleRequest
from ancestral.app.sampling.guidance import denoising
from ancestral.app.training.saved import Opened, opened, spec_of, weights_of
from ancestral.configuration import encode
from ancestral.errors import AncestralError, UsageError
from ancestral.files import disk_errors, read_json, write_atomically
from ancestral.models import GenerativeModel, seeds_from
from ancestral.models.denoising import SOLVER, SPACING, STEPS
from ancestral.models.exported import CONDITIONER, ExportedModel, holds_export
from ancestral.models.pipelines import NOTE
from ancestral.runner import CONFIG, FORMAT, Array, Exported, digest, digest_of
from ancestral.suggest import unknown
from ancestral.version import __version__
from ancestral.weights import checksum, write_tensors

To = Format | Literal["diffusers", "web"]
What = Literal["sampler", "network"]
Arithmetic = Literal["fp32", "int8"]
AGREES = 1e-3  # largest difference of a sample from the model's own, in deviations of the data
USABLE = 0.3  # root mean square difference of int8 samples, in deviations of the data
CHECKED: Mapping[str, Sequence[int]] = {  # samples of the batches that are compared
    "fp32": (1, 8, 8, 8),  # an error shows in each of them
    "int8": (1, *[32] * 16),  # a few lie beyond the measured ranges
}
MEASURED = 16  # batches of 32 from which the ranges of int8 are measured: what lies beyond them is cut off
RUNNER = "runner.py"


@dataclass(frozen=True)
class Export:
    """An export that was written.

    Args:
        folder: its folder.
        config: its description.
    """

    folder: Path
    config: Mapping[str, Any]

    @property
    def agreement(self) -> Mapping[str, float]:
        """The difference of its samples from those of the model, in deviations of the data.

        `largest` of any number, and `rms`, the root mean square over all numbers; of int8 also `rms_99`, the 99 % quantile of
        the root mean squares of single samples.
        """
        found: Mapping[str, float] = self.config["agreement"]
        return found


def export(
    run: str | Path | GenerativeModel,
    to: To = "onnx",
    out: str | Path | None = None,
    *,
    what: What = "sampler",
    precision: Arithmetic = "fp32",
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    runtime: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Export:
    """Export a model into a folder that onnxruntime, openvino or torch can run without this package.

    The folder has the graphs, `config.json`, and `runner.py`, which draws samples. A seed gives the same sample as here. This
    is checked before the folder is written.

    Args:
        run: the folder of a run or of a saved model, or a model.
        to: the format: "onnx", "openvino" or "pt2"; or "diffusers", a folder for the pipelines of that library, of a model
            whose network is theirs (`model.net=unet-diffusers`); or "web", an ONNX sampler of pictures with a page that runs it
            in the browser.
        out: the folder. None: RUN-FORMAT, beside the run.
        what: "sampler": one graph from random numbers to samples. "network": the denoiser of a diffusion or score model, the
            decoder of a VAE, the generator of a GAN.
        precision: "fp32", or "int8" for convolutions and products of matrices, except for pt2.
        steps: the number of steps of a model that denoises. None: those that `ancestral tune` fitted, else 8 in a sampler and
            20 for a network.
        solver: the solver of a sampler. None: the default. A network is sampled with DDIM.
        guidance: the strength of the conditions. None: as in sampling from the run.
        runtime: for "web", the folder of the package onnxruntime-web. None: it is fetched with npm.
        reporter: shows the progress.

    Raises:
        UsageError: if the model or the request cannot be exported.
        AncestralError: if a package is missing, or the samples of the export differ from those of the model.
    """
    reporter = reporter or Reporter(quiet=True)
    _check(to, what, precision)
    folder = None if isinstance(run, GenerativeModel) else opened(run)
    target = Path(out) if out is not None else _beside(folder, to, precision)
    _check_target(target)
    given = {"steps": steps, "solver": solver, "guidance": guidance}
    if to == "diffusers" and (what != "sampler" or precision != "fp32" or any(value is not None for value in given.values())):
        raise UsageError("a pipeline of diffusers is whole and chooses its sampler itself: give no other option than `out`")
    if runtime is not None and to != "web":
        raise UsageError("`runtime` is the folder of onnxruntime-web, which only a web page needs: leave it out")
    if to == "web" and what != "sampler":
        raise UsageError("a web page runs a whole sampler: leave `what` out")
    format: Format | None = None if to == "diffusers" else "onnx" if to == "web" else to
    if format is not None:
        check_packages(format)
    model = _loaded(run)
    if to == "web":
        check_pictures(model)
    with disk_errors(target), staged(target) as there:
        if format is None:
            name = None if folder is None else folder.path.resolve().name
            return Export(target, write_pipeline(model, there, name, _weights(model, folder)))
        planned = plan(model, what, _sampler(model, folder, what, steps, solver, guidance))
        if to == "web":  # first, since its runtime may be missing
            write_page(there, None if runtime is None else Path(runtime))
        config = _config(model, planned, format, what, precision, folder)
        _graphs(there, model, planned, config, reporter, texts=to != "web")
    return Export(target, config)


def _graphs(
    there: Path, model: GenerativeModel, planned: Plan, config: dict[str, Any], reporter: Reporter, texts: bool
) -> None:
    """Write graphs, description and runner, and compare the samples. texts: whether the runner shall read texts."""
    _write(there, config, planned, None)
    _encoders(model, there, config)
    if texts:
        write_readers(model, there, config)
    _describe(there, config)
    if config["precision"] == "int8":
        reporter.say("measuring the ranges of the int8 numbers on samples")
        _write(there, config, planned, _calibration(Exported(there), planned))
        _describe(there, config)
        reporter.say(f"comparing {sum(CHECKED['int8'])} samples with those of the model")
    config["agreement"] = _agreement(there, config, model, planned)
    _describe(there, config)
    write_atomically(there / RUNNER, inspect.getsource(runner_module).encode())


def _check(to: str, what: str, precision: str) -> None:
    """Raise UsageError for an unknown word."""
    for name, value, known in (
        ("format", to, (*NEEDED, "diffusers", "web")),
        ("part", what, ("sampler", "network")),
        ("precision", precision, ("fp32", "int8")),
    ):
        if value not in known:
            raise UsageError(unknown(name, value, known))
    if precision == "int8" and to == "pt2":
        raise UsageError("a pt2 has no int8: export int8 to onnx or openvino")


def _loaded(run: str | Path | GenerativeModel) -> GenerativeModel:
    """Return the model on the CPU, in full precision. A model object is copied."""
    model = deepcopy(run).cpu().eval() if isinstance(run, GenerativeModel) else opened(run).load_model("cpu", "fp32")
    if isinstance(model, ExportedModel):
        raise UsageError("this is an export already: export the run from which it was made")
    model.precision = nullcontext
    return model


def _weights(model: GenerativeModel, run: Opened | None) -> str:
    return checksum(model.state_dict()) if run is None else weights_of(run)


def _sampler(
    model: GenerativeModel, run: Opened | None, what: What, steps: int | None, solver: str | None, guidance: float | None
) -> Sampler | None:
    """Return the sampler of a model that denoises, None for another. Raises UsageError for an option without effect."""
    inner = denoising(model)
    if inner is None:
        asked = {"steps": steps, "solver": solver, "guidance": guidance}
        if vain := [name for name, value in asked.items() if value is not None]:
            raise UsageError(
                f"`{vain[0]}` has no effect on a {model.family} model, whose sampler has no settings: leave it out"
            )
        return None
    scale = inner.usual_guidance(inner.conditioner.kinds) if guidance is None else guidance
    if guidance is not None and not len(inner.conditioner.kinds):
        raise UsageError("`guidance` is the strength of conditions, and this model has none: leave it out")
    if what == "network":
        if solver not in (None, "ddim"):
            raise UsageError(f"an exported network is sampled with ddim, not with {solver}: leave the solver out")
        return Sampler("ddim", steps or STEPS, SPACING, scale)
    request = SampleRequest(steps=steps, solver=solver, effort="quick" if steps is None and solver is None else None).settled(
        run
    )
    spacing = SPACING if request.spacing is None else request.spacing
    return Sampler(str(request.solver or SOLVER), request.steps or STEPS, spacing, scale)


def _config(
    model: GenerativeModel, planned: Plan, to: Format, what: What, precision: Arithmetic, run: Opened | None
) -> dict[str, Any]:
    """Return the description of an export, without its files."""
    spec = spec_of(model, "model") if run is None else run.spec
    units = model.standardize.units
    conditioner = model.conditioner
    return {
        "export": FORMAT,
        "version": __version__,
        "format": to,
        "what": what,
        "precision": precision,
        "family": model.family,
        "run": None if run is None else run.path.resolve().name,
        "weights": _weights(model, run),
        "shape": list(model.shape),
        "mean": units["mean"],
        "std": units["std"],
        "bounds": None if units["bounds"] is None else list(units["bounds"]),
        "levels": spec.levels,
        "data": spec.to_json(),
        "noise": [[method, list(shape)] for method, shape in planned.draws],
        "conditions": described(planned.conditions, dict(conditioner.kinds.items())),
        "conditioner": encode(conditioner),
        "sampler": planned.sampler,
        "graphs": {},
    }


def _write(folder: Path, config: dict[str, Any], planned: Plan, calibration: Mapping[str, list[list[Array]]] | None) -> None:
    """Write the graphs and their entries in the description."""
    for name, graph in planned.graphs.items():
        files = write(graph, config["format"], folder / name, None if calibration is None else calibration[name])
        inputs = [
            {"name": label, "shape": ["n", *t.shape[1:]], "dtype": str(t.dtype).removeprefix("torch.")}
            for label, t in zip(graph.names, graph.inputs, strict=True)
        ]
        shape = config["shape"] if name != "denoiser" else list(graph.inputs[0].shape[1:])
        output = {"name": graph.output, "shape": ["n", *shape], "dtype": "float32"}
        config["graphs"][name] = {"files": {f.name: digest(f) for f in files}, "inputs": inputs, "output": output}


def _encoders(model: GenerativeModel, folder: Path, config: Mapping[str, Any]) -> None:
    """Write the encoders of the conditions, with which `ancestral.load` reads the values of users."""
    if not config["conditions"]:
        return
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in model.conditioner.state_dict().items()}
    write_tensors(folder / CONDITIONER, tensors, {"checksum": checksum(tensors)})


def _describe(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config.json` with its checksum."""
    plain = read_json(json.dumps(config))  # tuples become lists, as they are read
    write_atomically(folder / CONFIG, json.dumps(plain | {"checksum": digest_of(plain)}, indent=1).encode())


def _calibration(exported: Exported, planned: Plan) -> dict[str, list[list[Array]]]:
    """Return what enters each graph while samples are drawn."""
    seen: dict[str, list[list[Array]]] = {name: [] for name in exported.graphs}

    def watched(name: str) -> Any:
        graph = exported.graphs[name]

        def call(inputs: Any) -> Array:
            seen[name].append(list(inputs))
            return graph(inputs)

        return call

    exported.graphs = {name: watched(name) for name in exported.graphs}
    for i in range(MEASURED):
        seeds, raw = _drawn(planned, i + 1, 32)
        exported.draw(seeds, exported.inputs(len(seeds), raw))
    return seen


def _drawn(planned: Plan, i: int, n: int) -> tuple[list[int], dict[str, Array]]:
    """Return seeds and raw conditions of the i-th batch."""
    rows = [(i + k) % N for k in range(n)]
    return seeds_from(i, n), {name: raw[rows].numpy() for name, raw in planned.conditions.items()}


def _agreement(folder: Path, config: Mapping[str, Any], model: GenerativeModel, planned: Plan) -> dict[str, Any]:
    """Compare samples of the export with those of the model, also without conditions and of one sample.

    Raises:
        AncestralError: if they differ.
    """
    exported = Exported(folder)
    unit, precision = float(np.mean(config["std"])), config["precision"]
    differences: list[Array] = []
    for i, n in enumerate(CHECKED[precision]):
        seeds, raw = _drawn(planned, 100 + i, n)
        raw = {} if i % 4 == 3 else raw
        condition = {name: torch.from_numpy(value) for name, value in raw.items()}
        how = dict(planned.reference)
        if "guidance" in config["sampler"] and raw and denoising(model) is not None:
            how["guidance"] = config["sampler"]["guidance"]
        theirs = exported.draw(seeds, exported.inputs(n, raw))
        ours = model.sample(n, condition, seeds=seeds, **how).numpy()
        differences.append((theirs - ours).reshape(n, -1) / unit)
    each = np.concatenate(differences)
    of_samples = np.sqrt(np.mean(each**2, 1))
    largest, rms = float(np.abs(each).max()), float(np.sqrt(np.mean(of_samples**2)))
    wrong = not rms <= USABLE if precision == "int8" else not largest <= AGREES
    if wrong:
        raise AncestralError(
            f"the export differs from the model: by up to {largest:.2g} deviations of the data, root mean square {rms:.2g}; "
            "nothing was written"
        )
    rare = {"rms_99": float(np.quantile(of_samples, 0.99))} if precision == "int8" else {}
    return {"samples": len(each), "largest": largest, "rms": rms, **rare}


def _beside(run: Opened | None, to: To, precision: Arithmetic) -> Path:
    if run is None:
        raise UsageError("a model has no folder beside which its export could be written: give out=")
    return run.path.with_name(f"{run.path.resolve().name}-{to}{'-int8' if precision == 'int8' else ''}")


def _check_target(target: Path) -> None:
    """Raise UsageError if the folder holds anything but an earlier export."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not holds_export(target) and not (target / NOTE).is_file():
        raise UsageError(f"{target} exists and is no export: choose another folder with `out`")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Open a folder beside the target, which takes its place if all goes well."""
    there, old = (target.with_name(f".{target.name}.{part}{os.getpid()}.tmp") for part in ("", "old."))
    remove_leftovers([*target.parent.glob(f".{escape(target.name)}.*.tmp")])  # others may be of another machine
    try:
        there.mkdir(parents=True)
        yield there
        if target.exists():
            target.rename(old)
        try:
            there.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        for part in (there, old):
            shutil.rmtree(part, ignore_errors=True)
