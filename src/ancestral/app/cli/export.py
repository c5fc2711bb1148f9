"""The command `ancestral export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def export(
    run: Annotated[Path, Parameter(group="Arguments")],
    *,
    to: Literal["onnx", "openvino", "pt2", "diffusers", "web"] = "onnx",
    out: Path | None = None,
    what: Literal["sampler", "network"] = "sampler",
    precision: Literal["fp32", "int8"] = "fp32",
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    runtime: Path | None = None,
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Write a model for ONNX Runtime, OpenVINO, torch, diffusers or a web page.

    For ONNX Runtime, OpenVINO and torch the folder also has a program, runner.py, which draws samples without this package. A
    seed gives the same sample as in `ancestral sample`. This is checked before the folder is written.

    Example: `ancestral export runs/digits --to onnx`, then `python runs/digits-onnx/runner.py -n 16 --out samples.png`

    Parameters
    ----------
    run
        Run folder, e.g. runs/digits, or the folder of a saved model.
    to
        Format: onnx for ONNX Runtime; openvino for OpenVINO; pt2 for torch alone; web for a page that draws in the browser; or
        diffusers for a pipeline of diffusers, which needs a run with model.net=unet-diffusers.
    out
        Folder to write. Default: RUN-FORMAT, e.g. runs/digits-onnx.
    what
        Part of the model: sampler is one graph from random numbers to samples; network is only the denoiser of a diffusion or
        score model, the decoder of a VAE, or the generator of a GAN.
    precision
        Arithmetic of convolutions and matrix products: fp32, or int8, which makes smaller files and is less exact.
    steps
        Number of solver steps of a model that denoises. Default: what `ancestral tune` found for the run, else 8 for a sampler
        and 20 for a network.
    solver
        Solver of a sampler, as in `ancestral sample`. A network is sampled with ddim.
    guidance
        Strength of the condition. Default: as in `ancestral sample`.
    runtime
        Folder of the package onnxruntime-web, for --to web. Default: npm fetches it.
    json
        Print the result as JSON.
    quiet
        Print nothing while it works.
    """
    from ancestral.app.cli.conditions import as_options
    from ancestral.app.export import export as write
    from ancestral.app.progress import Reporter, emit

    reporter = Reporter(quiet=quiet or json)
    with as_options():
        done = write(
            run,
            to,
            out,
            what=what,
            precision=precision,
            steps=steps,
            solver=solver,
            guidance=guidance,
            runtime=runtime,
            reporter=reporter,
        )
    if json:
        emit({"out": str(done.folder), **{name: done.config[name] for name in ("format", "what", "precision", "agreement")}})
        return 0
    size = sum(file.stat().st_size for file in done.folder.rglob("*") if file.is_file())
    reporter.say(f"{done.config['what']} of {run}: {done.folder} ({size / 1e6:.1f} MB)")
    largest = done.agreement["largest"]
    if to == "diffusers":
        name = done.config["pipeline"]
        reporter.say(f"pictures of the pipeline differ from those of the run by up to {largest:.1g} in [-1, 1]")
        reporter.say(f'load it: diffusers.{name}.from_pretrained("{done.folder}")')
        return 0
    rare = f", above {done.agreement['rms_99']:.2g} for 1 sample of 100" if precision == "int8" else ""
    reporter.say(
        f"{done.agreement['samples']} samples differ from those of the run by up to {largest:.2g} deviations of the data (root "
        f"mean square {done.agreement['rms']:.2g}{rare})"
    )
    if to == "web":
        reporter.say(f"show the page: python -m http.server --directory {done.folder}")
    reporter.say(f"draw samples: python {done.folder / 'runner.py'} -n 16 --out samples.png")
    return 0
