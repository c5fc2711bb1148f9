"""`ancestral sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ancestral.app.cli.conditions import NOTHING, Asked

if TYPE_CHECKING:
    from torch import Tensor

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
    run: Path,
    *,
    n: Annotated[int | None, Parameter(name=["-n", "--number"])] = None,
    seed: int = 0,
    seeds: str | None = None,
    asked: Asked = NOTHING,
    guidance: float | None = None,
    interval: str | None = None,
    rescale: float | None = None,
    negative: str | None = None,
    autoguide: str | None = None,
    steps: int | None = None,
    solver: str | None = None,
    spacing: Literal["trailing", "linear", "logsnr", "karras"] | None = None,
    prior: Literal["aggregate", "standard"] | None = None,
    observe: Literal["mean", "draw"] | None = None,
    truncation: float | None = None,
    batch: int | None = None,
    out: Path | None = None,
    trajectory: Path | None = None,
    interpolate: str | None = None,
    reconstruct: str | None = None,
    latent_map: Annotated[bool, Parameter(negative="")] = False,
    traverse: Annotated[bool, Parameter(negative="")] = False,
    legend: Annotated[bool, Parameter(negative="")] = False,
    invert: Path | None = None,
    inpaint: Path | None = None,
    mask: Path | None = None,
    upscale: Path | None = None,
    vary: Path | None = None,
    strength: float | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Draw new samples from the model of a run.

    Parameters
    ----------
    run
        The run folder, e.g. runs/digits.
    n
        How many; with --prompt, of each, a column each. Left out: 64; about 32 in all with --prompt; one each of several
        classes; 16 of one picture.
    seed
        The same seed gives the same samples, whatever their number.
    seeds
        One seed for each sample instead, e.g. 3,7,9.
    asked
        What is asked for; see `Asked`.
    guidance
        How strongly the condition rules: 0 not at all, 1 as trained, above 1 sharper and less varied. Left out: 1.5 for a
        class, a text, a layout or a map, else 1.
    interval
        The noise levels sigma/alpha between which guidance acts, e.g. 0.2,5; at all if left out.
    rescale
        How much of the contrast that guidance adds is taken back, 0 to 1; 0.7 is usual.
    negative
        The text, or without --prompt the class, from which guidance goes away, in place of none at all.
    autoguide
        A weaker model of the same data, from which guidance goes away instead: the folder of another run, smaller or trained
        for less long, or the step of a checkpoint that this one has kept.
    steps
        Steps of the sampler; 20 if left out.
    solver
        ddpm, ddim, euler, heun, dpmpp, dpmpp-1, dpmpp-3, dpmpp-sde, unipc, unipc-3, rk4, adaptive, langevin, langevin-v1,
        langevin-one, pc, euler-maruyama, churn.
    spacing
        How the steps are spread over the noise levels.
    truncation
        Of a GAN: 1 as trained, less for samples that are more typical and less varied, 0 for the mean one.
    invert
        A picture: find what the model would have to draw to generate it, and write the picture beside its reconstruction.
        For models with a latent space.
    inpaint
        A picture of which the part that --mask marks is made anew; the rest stays as it is. For models that denoise.
    mask
        A picture as large as that of --inpaint, white where new pixels are wanted.
    upscale
        A small picture: samples of the model's size whose means over blocks are its pixels.
    vary
        A picture of which samples are variations.
    strength
        How much --vary changes: 0 nothing, 1 all; 0.5 if left out.
    batch
        Samples computed at a time.
    out
        A picture (.png), an array (.npz) or a folder of single pictures. Left out: samples.png in the run folder.
    legend
        Show in the picture what each sample was asked to be: words beneath it, boxes on it, a given picture beside it.
    trajectory
        Also draw the way of the samples from noise to data, as .gif or .png.
    prior
        Where a VAE's latents are drawn: aggregate, from where the encoder puts the data; standard, from N(0, 1).
    observe
        What a VAE shows of p(x | z): its mean, or a draw with all its noise.
    interpolate
        Instead, a picture of the way between the samples of two seeds or more, e.g. 3,7.
    reconstruct
        Instead, a picture of samples of this source and of what comes back when they are encoded and decoded.
    latent_map
        Instead, a map of the latent space.
    traverse
        Instead, a picture of what each latent does to the sample of --seed.
    device
        auto, cpu, cuda or mps.
    precision
        auto, fp32 or bf16.
    json
        Print the result as JSON.
    quiet
        Print nothing on the way.
    """
    import time

    import torch

    from ancestral.app.cli.edit import Editing, N
    from ancestral.app.cli.guide import guidance_options
    from ancestral.app.cli.writing import check_suffix, draw_trajectory, integers, write
    from ancestral.app.progress import Reporter, duration, emit
    from ancestral.app.training.run import Run
    from ancestral.errors import UsageError
    from ancestral.files import disk_errors
    from ancestral.models import seeds_from

    asked.check()
    opposite = asked.opposite(negative)
    edits = {"inpaint": inpaint, "upscale": upscale, "vary": vary}
    editing = Editing(**edits, mask=mask, strength=strength)
    editing.check()
    each = asked.columns if asked.prompt else 1
    usual = each * max(1, 32 // each) if asked.prompt else max(N if any(edits.values()) else 64, len(asked.classes))
    chosen = integers(seeds) if seeds is not None else seeds_from(seed, usual if n is None else n * each)
    if seeds is not None and n is not None and n != len(chosen):
        raise UsageError(f"--seeds names {len(chosen)} seeds and -n asks for {n} samples: leave -n out")
    if not chosen or (n is not None and n < 1):
        raise UsageError("ask for at least one sample with -n")
    if len(asked.classes) > 1 and not asked.prompt and n is None and seeds is None:
        chosen = chosen[: len(asked.classes)]
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
        raise UsageError(f"--{' and --'.join(wished)} are a picture each: ask for one at a time")
    wish = wished[0] if wished else "sample"
    out = out or run / FILES[wish]
    kinds = {"invert": (".png", ".npz")} | dict.fromkeys(("sample", *edits), (".png", ".npz", ""))
    check_suffix("--out", out, kinds.get(wish, (".png",)))
    ways = {
        "trajectory": trajectory,
        "steps": steps,
        "solver": solver,
        "spacing": spacing,
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
        raise UsageError(f"--{vain[0]} says how samples are drawn, and --{wish} is another picture: leave it out")
    if legend and (wish not in ("sample", *edits) or out.suffix.lower() != ".png" or not asked):
        raise UsageError("--legend shows what was asked in the picture of samples: ask for something, and write a .png")
    if trajectory is not None:
        check_suffix("--trajectory", trajectory, (".gif", ".png"))

    folder = Run.existing(run)
    model = folder.load_model(device, precision)
    spec = folder.spec
    if not out.suffix and not spec.is_image:
        raise UsageError(f"{out} would be a folder of pictures, and samples of {spec.name} are no images: write .npz or .png")
    for path in filter(None, (out, trajectory)):
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
    how: dict[str, Any] = {
        "steps": steps,
        "solver": solver,
        "spacing": spacing,
        "prior": prior,
        "observe": observe,
        "truncation": truncation,
    }
    edit, given = editing.edit(model, spec)
    how = {name: value for name, value in (how | {"edit": edit}).items() if value is not None}
    condition = asked.condition(model, spec, len(chosen)) | given
    how |= guidance_options(
        folder,
        model,
        guidance=guidance,
        interval=interval,
        rescale=rescale,
        negative=opposite,
        autoguide=autoguide,
        condition=condition,
    )
    reporter = Reporter(quiet=quiet or json)
    if invert is not None:
        from ancestral.app.cli.invert import invert as search

        one = asked.condition(model, spec)
        return search(model, spec, invert, out, seed=seed, condition=one, reporter=reporter, json=json)
    if wish not in ("sample", *edits):
        from ancestral.app.cli.latent import draw

        one = asked.condition(model, spec)
        draw(wish, pictures[wish], model, folder, out, seeds=chosen, condition=one, prior=prior, reporter=reporter, json=json)
        return 0
    begun = time.perf_counter()
    results: list[Tensor] = []
    frames: list[Tensor] = []
    nfe = 0
    with reporter.live() as line:
        for states in model.batches(len(chosen), condition, seeds=chosen, batch=batch, **how):
            for state in states:
                if trajectory is not None and not results:
                    frames.append(state.x)
                nfe, share = state.nfe, state.done / max(state.total, 1)
                ready = sum(map(len, results)) + share * len(state.x)
                if ready:
                    left = (time.perf_counter() - begun) * (len(chosen) / ready - 1)
                    line.update(f"{ready / len(chosen):4.0%}  step {state.done}/{state.total}  {duration(left)} left")
            results.append(state.x)
    x = editing.kept(torch.cat(results), given)
    seconds = time.perf_counter() - begun

    shown = asked.shown(model, condition, len(x)) if legend else ()
    write(x, out, spec, chosen, asked.columns if 1 < asked.columns < len(chosen) else None, shown)
    reporter.say(f"{len(x)} samples in {seconds:.1f} s ({len(x) / seconds:.1f}/s, {nfe} evaluations each): {out}")
    if trajectory is not None:
        draw_trajectory(frames, trajectory, spec)
        reporter.say(f"their way from noise: {trajectory}")
    if json:
        result: dict[str, Any] = {
            "out": str(out),
            "n": len(x),
            "seeds": chosen,
            "seconds": round(seconds, 3),
            "nfe": nfe,
        }
        emit(result | ({"trajectory": str(trajectory)} if trajectory else {}))
    return 0
