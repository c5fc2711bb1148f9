"""The command `ancestral sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from ancestral.app.cli.conditions import CONDITIONS, NOTHING, Asked
from ancestral.app.cli.options import SPACING
from ancestral.builtin import explained

if TYPE_CHECKING:
    from torch import Tensor

WHAT = Group("What to draw", sort_key=0)
GUIDANCE = Group(
    "Guidance", help="For models that denoise (diffusion, score, latent), with a condition or a weaker model.", sort_key=2
)
SAMPLER = Group("Sampler", sort_key=3)
EDITS = Group("Edits", help="Change a picture of yours. One of --inpaint, --upscale and --vary at a time.", sort_key=4)
LATENT = Group("Pictures of the latent space", help="In place of samples. One at a time.", sort_key=5)
OUTPUT = Group("Output", sort_key=6)
MACHINE = Group("Machine", sort_key=7)

FIRST, LONG = 64, 30  # samples whose size is measured, and seconds of sampling that are announced

FILES = {
    "sample": "samples.png",
    "interpolate": "interpolation.png",
    "reconstruct": "reconstruction.png",
    "latent-map": "latent-map.png",
    "traverse": "traverse.png",
    "invert": "inverted.png",
    "inpaint": "inpainted.png",
    "upscale": "upscaled.png",
    "vary": "varied.png",
}


def sample(
    run: Annotated[Path | None, Parameter(group=WHAT)] = None,
    *,
    n: Annotated[int | None, Parameter(name=["-n", "--count"], group=WHAT)] = None,
    seed: Annotated[int, Parameter(group=WHAT)] = 0,
    seeds: Annotated[str | None, Parameter(group=WHAT)] = None,
    asked: Asked = NOTHING,
    sweep: Annotated[str | None, Parameter(group=CONDITIONS)] = None,
    grid: Annotated[tuple[str, ...], Parameter(negative="", show_default=False, group=WHAT)] = (),
    like: Annotated[Path | None, Parameter(group=WHAT)] = None,
    guidance: Annotated[float | None, Parameter(group=GUIDANCE)] = None,
    interval: Annotated[str | None, Parameter(group=GUIDANCE)] = None,
    rescale: Annotated[float | None, Parameter(group=GUIDANCE)] = None,
    negative: Annotated[str | None, Parameter(group=GUIDANCE)] = None,
    autoguide: Annotated[str | None, Parameter(group=GUIDANCE)] = None,
    steps: Annotated[int | None, Parameter(group=SAMPLER)] = None,
    solver: Annotated[
        str | None,
        Parameter(
            group=SAMPLER,
            help=f"Solver of models that denoise: {explained('solver')}. Default: what `ancestral tune` fitted, else dpmpp.",
        ),
    ] = None,
    spacing: Annotated[str | None, Parameter(group=SAMPLER, help=SPACING)] = None,
    quick: Annotated[bool, Parameter(negative="", show_default=False, group=SAMPLER)] = False,
    best: Annotated[bool, Parameter(negative="", show_default=False, group=SAMPLER)] = False,
    prior: Annotated[Literal["aggregate", "standard"] | None, Parameter(group=SAMPLER)] = None,
    observe: Annotated[Literal["mean", "draw"] | None, Parameter(group=SAMPLER)] = None,
    truncation: Annotated[float | None, Parameter(group=SAMPLER)] = None,
    inpaint: Annotated[Path | None, Parameter(group=EDITS)] = None,
    mask: Annotated[Path | None, Parameter(group=EDITS)] = None,
    upscale: Annotated[Path | None, Parameter(group=EDITS)] = None,
    vary: Annotated[Path | None, Parameter(group=EDITS)] = None,
    strength: Annotated[float | None, Parameter(group=EDITS)] = None,
    interpolate: Annotated[str | None, Parameter(group=LATENT)] = None,
    reconstruct: Annotated[str | None, Parameter(group=LATENT)] = None,
    latent_map: Annotated[bool, Parameter(negative="", show_default=False, group=LATENT)] = False,
    traverse: Annotated[bool, Parameter(negative="", show_default=False, group=LATENT)] = False,
    invert: Annotated[Path | None, Parameter(group=LATENT)] = None,
    out: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    trajectory: Annotated[Path | None, Parameter(group=OUTPUT)] = None,
    legend: Annotated[bool, Parameter(negative="", show_default=False, group=OUTPUT)] = False,
    metadata: Annotated[bool, Parameter(negative="--no-metadata", group=OUTPUT)] = True,
    json: Annotated[bool, Parameter(show_default=False, group=OUTPUT)] = False,
    quiet: Annotated[bool, Parameter(alias="-q", show_default=False, group=OUTPUT)] = False,
    batch: Annotated[int | None, Parameter(group=MACHINE)] = None,
    device: Annotated[str, Parameter(group=MACHINE)] = "auto",
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Parameter(group=MACHINE)] = "auto",
) -> int:
    """Draw new samples from a trained model.

    They are written as one picture, samples.png in the run folder. --out takes other places and formats.

    Example: `ancestral sample runs/digits -n 64 --seed 1 --out digits.png`

    Parameters
    ----------
    run
        Run folder, e.g. runs/digits; or the folder of a saved model or an export; or hub:user/name, a model of the Hugging Face
        hub; or diffusers:FOLDER, a pipeline of diffusers. With --like it can be left out.
    n
        Number of samples; with --prompt, of each prompt. Default: 64; with --prompt about 32 in all; with several classes one
        of each; with a picture 16.
    seed
        Random seed. The same seed gives the same samples, whatever their number.
    seeds
        Seeds of the single samples, e.g. 3,7,9, in place of -n and --seed.
    asked
        Conditions; see `Asked`.
    sweep
        Draw a strip along one number, NAME=START:STOP:COUNT, e.g. number=0:1:8 or angle=0:90:7. The samples of a row have the
        same seed, and -n is the number of rows (default: 1).
    grid
        Draw a grid with one sample for each pair of values of two settings: give --grid NAME=VALUE,VALUE twice, first across
        and then down. NAME: seed, class, guidance, steps, solver, spacing, strength or truncation. E.g.
        --grid guidance=0,1,2,4 --grid steps=2,5,20.
    like
        File of samples (.png, .tif, .npz or .csv) to draw again with the settings that are stored in it. RUN can be left out if
        the run is beside the file or in the current folder.
    guidance
        Strength of the condition: 0 ignores it, 1 is as trained, above 1 is sharper and less varied. Default: 1.5 for a
        class, a text, a number, a layout or a map, else 1.
    interval
        Noise levels sigma/alpha between which guidance acts, e.g. 0.2,5. Default: all.
    rescale
        Share of the contrast that guidance adds and this takes away, from 0 to 1; 0.7 is usual with strong guidance. Default:
        0.
    negative
        Text that samples should not show; without --prompt a class. Default: none.
    autoguide
        Weaker model of the same data from which guidance leads away: the folder of another run with a smaller network or a
        shorter training, or the step of a stored checkpoint of this run. Default: none.
    steps
        Number of solver steps. Default: what `ancestral tune` found for the run, else 20.
    quick
        Draw fast: with the fewest steps that `ancestral tune` fitted to the run; without a tuning 8.
    best
        Draw as well as possible: with the number of steps after which more change nothing, as `ancestral tune` measured it;
        without a tuning 50.
    prior
        Distribution of a VAE's latents: aggregate follows the encoded data, standard is N(0, 1). Default: aggregate.
    observe
        What a VAE returns of p(x | z): its mean, or a draw with all its noise. Default: mean.
    truncation
        Truncation of a GAN's latent (1 = off). Lower values trade variety for typicality; 0 gives the mean sample.
        Default: 1.
    inpaint
        Picture whose masked part is generated again (see --mask). The rest does not change. For models that denoise, and for
        models trained with the condition inpaint.
    mask
        Picture of the same size as that of --inpaint, white where new pixels are wanted.
    upscale
        Small picture to enlarge to the model's size. Scaled down, the samples are this picture.
    vary
        Picture to vary: the samples are variations of it.
    strength
        Amount of change by --vary, from 0 (nothing) to 1 (all). Default: 0.5.
    interpolate
        Seeds, e.g. 3,7: draw the path between their samples, as a .png or as a film .gif.
    reconstruct
        Data, as for `ancestral train`: encode and decode the first of them, and draw both.
    latent_map
        Draw a map of the latent space.
    traverse
        Draw how each latent changes the sample of --seed.
    invert
        Picture whose latent is searched. It is drawn above its reconstruction.
    out
        File to write: one picture of all (.png), arrays (.npz), a table (.csv); or a folder, which gets a file for each sample:
        .png, or .tif or .npy if a PNG cannot hold it. Default: samples.png in the run folder, or in the current folder for a
        model of the hub.
    trajectory
        Also draw the path of the samples from noise to data, as .gif or .png.
    legend
        Show the condition of each sample in the picture: words below it, boxes on it, a given picture beside it.
    metadata
        Store in the files how their samples were drawn, for --like and for other programs, and that they are generated.
        --no-metadata leaves it out.
    json
        Print the result as JSON.
    quiet
        Print nothing while it works.
    batch
        Number of samples computed at a time. Fewer need less memory, and the samples are the same. Default: at least 64.
    device
        Device: auto (the GPU if there is one), cpu, cuda or mps.
    precision
        Arithmetic of the networks: auto, fp32, bf16 or fp16.
    """
    import atexit
    import time
    from collections.abc import Mapping
    from dataclasses import replace
    from shutil import rmtree
    from tempfile import mkdtemp

    import torch

    from ancestral.app.cli.conditions import as_options
    from ancestral.app.cli.options import check_suffix, integers, spacing_of
    from ancestral.app.data.decode import listed
    from ancestral.app.pictures import save
    from ancestral.app.progress import Reporter, duration, emit
    from ancestral.app.remote import is_remote
    from ancestral.app.sampling import EditRequest, Guidance, SampleRequest
    from ancestral.app.sampling.grid import Axis, SampleGrid
    from ancestral.app.sampling.provenance import find_run, read, record, to_json
    from ancestral.app.sampling.tuning import stale
    from ancestral.app.sampling.walk import Walk
    from ancestral.app.sampling.writing import (
        bytes_each,
        check_disk,
        check_memory,
        draw_trajectory,
        picture_of,
        size,
        write,
    )
    from ancestral.app.training.saved import folder_of, opened
    from ancestral.errors import UsageError
    from ancestral.files import disk_errors

    edits = {"inpaint": inpaint, "upscale": upscale, "vary": vary}
    pictures: dict[str, Any] = {
        "interpolate": interpolate,
        "reconstruct": reconstruct,
        "latent-map": latent_map or None,
        "traverse": traverse or None,
        "invert": invert,
        **edits,
    }
    wished = [name for name, value in pictures.items() if value is not None]
    if len(wished) > 1:
        raise UsageError(f"--{' and --'.join(wished)} cannot be combined: give one at a time")
    wish = wished[0] if wished else "sample"
    conditions = asked.conditions(sweep)
    family = {"prior": prior, "observe": observe, "truncation": truncation}
    arrangement: Mapping[str, Any] = {}
    with as_options():
        request = SampleRequest(
            n=n,
            seed=seed,
            seeds=None if seeds is None else tuple(integers(seeds)),
            conditions=conditions,
            guidance=Guidance(
                scale=guidance,
                interval=_interval(interval),
                rescale=rescale,
                negative=conditions.opposite(negative),
                autoguide=autoguide,
            ),
            edit=EditRequest(**edits, mask=mask, strength=strength),
            solver=solver,
            steps=steps,
            spacing=spacing_of(spacing),
            effort=_effort(quick, best),
            options={name: value for name, value in family.items() if value is not None},
            batch=batch,
            device=device,
            precision=precision,
        )
        if like is not None:
            if to_json(request) or wished or grid:
                raise UsageError("--like draws with the settings of its file: leave all other settings out")
            kept = mkdtemp()  # for the pictures of its request
            atexit.register(rmtree, kept, ignore_errors=True)
            found = read(like, Path(kept))
            request, arrangement, run = replace(found.request, device=device), found.arrangement, run or find_run(found, like)
            conditions, legend = request.conditions, bool(arrangement.get("legend"))
        elif grid:
            if len(grid) != 2:
                raise UsageError(f"a grid has two settings, each with its own --grid; there is {len(grid)}")
            arrangement = SampleGrid(request, *map(Axis.read, grid)).arrangement
    if run is None:
        raise UsageError(
            "name the folder of a run, e.g. `ancestral sample runs/digits`, or give a file to draw again by --like"
        )
    one = arrangement.get("sample")  # the place of the only sample of a file
    home = Path() if is_remote(run) else folder_of(run)
    out = out or home / (FILES[wish] if one is None or like is None else f"samples{like.suffix}")
    singly = () if one is None else (".tif", ".npy")
    kinds: dict[str, tuple[str, ...]] = dict.fromkeys(("sample", *edits), (".png", ".npz", ".csv", "", *singly))
    kinds |= {"invert": (".png", ".npz"), "interpolate": (".png", ".gif")}
    check_suffix("--out", out, kinds.get("interpolate" if "walk" in arrangement else wish, (".png",)))
    ways = {
        "trajectory": trajectory,
        "steps": steps,
        "solver": solver,
        "spacing": spacing,
        "quick": quick or None,
        "best": best or None,
        "observe": observe,
        "truncation": truncation,
        "batch": batch,
        "guidance": guidance,
        "interval": interval,
        "rescale": rescale,
        "negative": negative,
        "autoguide": autoguide,
    }
    if wish not in ("sample", *edits) and (vain := [name for name, value in ways.items() if value is not None]):
        raise UsageError(f"--{vain[0]} has no effect on --{wish}, which draws no samples: leave --{vain[0]} out")
    if legend and (wish not in ("sample", *edits) or out.suffix.lower() != ".png" or not conditions):
        raise UsageError("--legend shows the conditions in a picture of samples: give a condition, and write a .png")
    if trajectory is not None:
        check_suffix("--trajectory", trajectory, (".gif", ".png"))

    folder = opened(run)
    model = folder.load_model(request.device, request.precision)
    spec = folder.spec
    if out.suffix.lower() == ".csv" and len(spec.shape) > 1:
        raise UsageError(f"{out} is a table, and samples of {spec.name} are not rows of numbers: write .npz, .png or a folder")
    for path in filter(None, (out, trajectory)):
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
    reporter = Reporter(quiet=quiet or json)
    if invert is not None:
        from ancestral.app.cli.invert import invert as search

        with as_options():
            one = conditions.condition(model, spec)
        return search(model, spec, invert, out, seed=seed, condition=one, reporter=reporter, json=json)
    if wish == "interpolate" or "walk" in arrangement:
        from ancestral.app.cli.latent import walk as draw_walk

        with as_options():
            walk = Walk(request, tuple(integers(interpolate))) if interpolate else Walk.of(request, arrangement)
        draw_walk(walk, model, folder, out, metadata=metadata, reporter=reporter, json=json)
        return 0
    if wish not in ("sample", *edits):
        from ancestral.app.cli.latent import draw

        with as_options():
            one, chosen = conditions.condition(model, spec), request.chosen_seeds()
        draw(wish, pictures[wish], model, folder, out, seeds=chosen, condition=one, prior=prior, reporter=reporter, json=json)
        return 0
    if "across" in arrangement:
        check_suffix("--grid", out, (".png",))
        with as_options():
            cells = SampleGrid.of(request, arrangement)
            x = torch.cat(list(cells.samples(model, folder)))
        with disk_errors(out.parent):
            save(cells.picture(x, spec), out, record(request, folder, cells.arrangement).chunks() if metadata else {})
        reporter.say(f"{len(x)} samples: {out}")
        if json:
            emit({"out": str(out), "n": len(x), **cells.arrangement})
        return 0
    with as_options():
        check_memory(request.count, out, spec)
        if note := stale(folder):
            reporter.say(note)
        sampler = request.settled(folder)
        sampling = request.prepare(model, run=folder)
        arrangement = {"legend": True} if legend else arrangement
        about = record(request, folder, arrangement, sampling) if metadata else None
        sampling = sampling if one is None else sampling.only(one)
    begun = time.perf_counter()
    results: list[Tensor] = []
    frames: list[Tensor] = []
    nfe = 0
    with reporter.live() as line:
        for states in sampling.batches():
            for state in states:
                if trajectory is not None and not results:
                    frames.append(state.x)
                nfe, share = state.nfe, state.done / max(state.total, 1)
                ready = sum(map(len, results)) + share * len(state.x)
                if ready:
                    left = (time.perf_counter() - begun) * (sampling.n / ready - 1)
                    line.update(f"{ready / sampling.n:4.0%}  step {state.done}/{state.total}  {duration(left)} left")
            results.append(state.x.cpu())
            if len(results) == 1 and len(state.x) < sampling.n:
                each = bytes_each(results[0][:FIRST], out, spec)
                with as_options():
                    check_disk(sampling.n, each, out)
                expected = (time.perf_counter() - begun) * sampling.n / len(state.x)
                if expected > LONG:
                    reporter.say(
                        f"{sampling.n:,} samples take about {duration(expected)}, and {size(sampling.n * each)} in {out}"
                    )
    x = torch.cat(results)
    seconds = time.perf_counter() - begun

    renderings = conditions.render(model, sampling.condition, len(x)) if legend else ()
    if out.suffix.lower() == ".png" and one is None:
        with disk_errors(out.parent):
            save(picture_of(x, sampling, request, spec, renderings), out, about.chunks() if about else {})
        written = ""
    else:
        written = write(x, out, spec, sampling.seeds, about, sampling.classes)
        if out.suffix.lower() == ".csv" and not sampling.classes and "class" in model.conditioner.kinds:
            few = ",".join(spec.classes[:3]) + ("" if len(spec.classes) <= 3 else ",...")
            written += ("; " if written else "") + f"they have no column label, since no class was asked for: --class {few}"
    drawn = list(dict.fromkeys(sampling.classes))
    of = f" of {'class' if len(drawn) == 1 else 'classes'} {listed(drawn)}" if drawn else ""
    fitted = f", {sampler.solver} at fitted noise levels" if sampler != request and not isinstance(sampler.spacing, str) else ""
    cost = "1 evaluation each" if nfe == 1 else f"{nfe} evaluations each"
    reporter.say(f"{len(x)} samples{of} in {seconds:.1f} s ({len(x) / seconds:.1f}/s, {cost}{fitted}): {out}")
    if written:
        reporter.say(written)
    if trajectory is not None:
        draw_trajectory(frames, trajectory, spec)
        reporter.say(f"their path from noise: {trajectory}")
    if json:
        result: dict[str, Any] = {
            "out": str(out),
            "n": len(x),
            "seeds": sampling.seeds,
            "seconds": round(seconds, 3),
            "nfe": nfe,
            "sampler": {"steps": sampler.steps, "solver": sampler.solver, "spacing": sampler.spacing},
        }
        result |= ({"classes": sampling.classes} if drawn else {}) | ({"note": written} if written else {})
        emit(result | ({"trajectory": str(trajectory)} if trajectory else {}))
    return 0


def _effort(quick: bool, best: bool) -> Literal["quick", "best"] | None:
    from ancestral.errors import UsageError

    if quick and best:
        raise UsageError("--quick and --best are the two ends of one scale: give one of them")
    return "quick" if quick else "best" if best else None


def _interval(text: str | None) -> tuple[float, float] | None:
    from ancestral.errors import UsageError

    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"cannot read the interval {text!r}: write two noise levels sigma/alpha, e.g. 0.2,5") from None
    return low, high
