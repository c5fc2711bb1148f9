"""The command `ancestral train`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ancestral.app.cli.parallel import in_processes
from ancestral.builtin import explained

if TYPE_CHECKING:
    from ancestral.app.api import Plan
    from ancestral.app.progress import Reporter
    from ancestral.app.training.loop import Step, Trainer


def train(
    source: Annotated[str, Parameter(group="Arguments")],
    *settings: str,
    model: Annotated[str | None, Parameter(help=f"Family of the model: {explained('family')}. Default: diffusion.")] = None,
    budget: Annotated[str | None, Parameter(name="--for")] = None,
    out: Path | None = None,
    size: str | None = None,
    axes: str | None = None,
    condition: Annotated[
        tuple[str, ...],
        Parameter(
            show_default=False,
            help=f"What will control the samples, if the data have it: {explained('condition')}. May be repeated. "
            "Default: nothing.",
        ),
    ] = (),
    hierarchy: int | None = None,
    bottleneck: Literal["gaussian", "vq"] | None = None,
    autoencoder: Path | None = None,
    start_from: Annotated[Path | None, Parameter(name="--from")] = None,
    seed: int | None = None,
    recipe: Path | None = None,
    track: Annotated[
        tuple[str, ...],
        Parameter(negative="", show_default=False, help=f"Also send measurements to: {explained('tracker')}. May be repeated."),
    ] = (),
    evaluate_every: str | None = None,
    patience: int | None = None,
    print_recipe: bool = False,
    profile: bool = False,
    device: str = "auto",
    nproc: int = 1,
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Train a model of your data, or continue a training.

    The model is written into a run folder, e.g. runs/digits. The same command continues a training that was stopped. Then draw
    samples with `ancestral sample runs/digits`, and see how good they are with `ancestral report runs/digits`.

    Example: `ancestral train path/to/images --condition class --for 1h --out runs/mine`

    Parameters
    ----------
    source
        Data: a folder of images; an .npy, .npz, .parquet, .csv or TIFF file; tar shards, as `'data/part-*.tar'` or
        `'data/part-{000..099}.tar'`; a data set of Hugging Face, as hf:NAME or the folder of save_to_disk; or a built-in name:
        digits, flowers, fashion-mnist, moons, rings, gaussians, swiss-roll, scenes, scenes64.
    settings
        Further settings as section.name=value, e.g. train.batch=128 model.schedule=linear. --print-recipe shows them all.
    budget
        Length of the training: a time (90s, 2m, 1h30m), steps (20000it) or passes through the data (5epochs). Default: 1m for
        points and tables, 2m for samples of up to 256 numbers, 10m for larger ones.
    out
        Run folder. Default: runs/NAME, with the name of the data.
    size
        Size in pixels to which images are scaled and cropped: 64 for a square, or height and width as 64x128. Default: their
        own size if all have the same, up to 64x64; else a smaller one of their usual shape.
    axes
        Names of the axes of an array, e.g. `"n h w c"`: n samples, c channels, h height, w width, l steps of a signal, d
        numbers of a vector. Default: chosen by the shape and the type of the values, and printed.
    hierarchy
        Number of groups of a VAE's latents, from coarse to fine, at least 2. Default: no groups.
    bottleneck
        Latents of a VAE: gaussian (continuous) or vq (a codebook). Default: gaussian. For a latent model set
        model.autoencoder.bottleneck.
    autoencoder
        Trained autoencoder of a latent model: a run of --model latent or vae, or a folder of diffusers' AutoencoderKL.
        Default: one is trained first.
    start_from
        Run of the same family and shape, whose weights training starts from (fine-tuning).
    seed
        Random seed for weights, noise and data order. Default: 0.
    recipe
        File of settings to begin from, such as recipe.yaml of another run. Other options override it.
    evaluate_every
        Interval of evaluations during training, e.g. 2m or 1000it. Each measures the kernel distance of 500 samples to real
        data. Default: none.
    patience
        Number of successive evaluations without improvement after which training stops. Default: it does not stop early.
    print_recipe
        Print all settings, and train nothing.
    profile
        Measure 50 steps, and print where their time goes.
    device
        Device: auto (the GPU if there is one), cpu, cuda or mps.
    nproc
        Number of processes on this machine that train together, each on its own GPU or its share of the cores. The result
        does not depend on it. On several machines start the command with torchrun.
    json
        Print the result as JSON.
    quiet
        Print nothing while it works.
    """
    import time

    started = time.monotonic()
    if (code := in_processes(nproc)) is not None:
        return code
    from dataclasses import replace

    from ancestral.app.api import plan
    from ancestral.app.evaluation import Evaluator
    from ancestral.app.evaluation.live import evaluated
    from ancestral.app.lock import locked
    from ancestral.app.processes import processes
    from ancestral.app.progress import Reporter
    from ancestral.app.recipes.recipe import Recipe
    from ancestral.app.training.budget import Budget
    from ancestral.errors import UsageError
    from ancestral.runtime import Runtime

    reporter = Reporter(quiet=quiet or json)
    values: dict[str, Any] = Recipe.load(recipe).model_dump(mode="json") if recipe else {}
    if seed is not None:
        settings = (*settings, f"train.seed={seed}")
    for name, value in (("hierarchy", hierarchy), ("bottleneck", bottleneck)):
        if value is not None:
            settings = (*settings, f"model.{name}={value}")
    planned = plan(
        source,
        model=model,
        budget=budget,
        out=out,
        size=size,
        axes=axes,
        condition=[name for text in condition for name in text.split(",")],
        autoencoder=autoencoder,
        start_from=start_from,
        device=device,
        settings=settings,
        recipe=values,
        started=started,
        reporter=reporter,
    )
    if print_recipe:
        print(planned.recipe.dump(), end="")
        return 0
    begun = time.monotonic()
    evaluator = every = None
    if evaluate_every is not None:
        every = Budget.parse(evaluate_every)
        with reporter.live() as line:  # the time for features of the real data is not training time
            if processes().main:
                runtime = Runtime.choose(device, parameters=10**6)
                evaluator = Evaluator(planned.data, runtime=runtime, progress=line.update)
        planned = replace(planned, started=planned.started + time.monotonic() - begun)
    elif patience is not None:
        raise UsageError("--patience counts evaluations during training: ask for them with --evaluate-every, e.g. 2m")
    watched = None if every is None else lambda trainer: evaluated(trainer, evaluator, every, patience)
    with locked(planned.run.path):
        return follow_plan(planned, reporter, json=json, track=track, profile=profile, watched=watched)


def follow_plan(
    planned: Plan,
    reporter: Reporter,
    *,
    json: bool,
    track: Sequence[str] = (),
    profile: bool = False,
    watched: Callable[[Trainer], Iterable[Step]] | None = None,
) -> int:
    """Train as planned, tell the user how it goes, and return the exit code.

    Args:
        planned: the training.
        reporter: shows the progress.
        json: whether the result is printed as JSON.
        track: the names of trackers.
        profile: whether steps are measured.
        watched: a function from the trainer to its steps, for more work between them.
    """
    from ancestral.app.progress import count, duration, follow
    from ancestral.app.training.profile import WARM, Profile, profiled

    trainer = planned.begin(reporter)
    run, data = trainer.run, trainer.data
    resumed = trainer.step > 0
    if resumed and trainer.progress >= 1:
        trainer.save()  # writes the model again, in case it is damaged or the process was killed before it was written
        for note in trainer.notes if trainer.changed else trainer.repairs:
            reporter.say(f"  {note}")
        reporter.say(f"{run.path} is finished: {trainer.step} steps in {duration(trainer.seconds)}")
        if trainer.copied:
            reporter.say(f"{trainer.concluded}; sample from it with `ancestral sample {run.path}`")
            return _result(trainer, json, "finished before")
        reporter.say(
            f"sample from it with `ancestral sample {run.path}`, or train longer: the same command with a larger --for"
        )
        return _result(trainer, json, "finished before")
    shape = "x".join(map(str, data.spec.shape))
    reporter.say(f"{data.spec.name}: {len(data.train):,} samples of {shape}, {len(data.test):,} held out")
    reporter.say(
        f"{trainer.recipe.model.title}, {count(trainer.parameters)} parameters, on {trainer.runtime}; "
        f"{'continuing at step ' + str(trainer.step) + ' of' if resumed else 'for'} {trainer.recipe.train.budget} in {run.path}"
    )
    steps = None if watched is None else watched(trainer)
    found: list[Profile] = []

    def report(made: Profile) -> None:
        found.append(made)
        reporter.say(str(made))

    if profile:
        steps = profiled(trainer, report, steps)
    stopped = follow(trainer, reporter, track=track, steps=steps)
    if profile and not found:
        reporter.say(f"no profile: it needs more than {WARM} steps, and training had {trainer.step}")
    if stopped is not None:
        reporter.say(f"stopped and saved at step {trainer.step}; continue with the same command")
        _result(trainer, json, "stopped", found)
        return 128 + stopped
    skipped = f", {trainer.skipped} skipped" if trainer.skipped else ""
    taken = f"{trainer.step:,} step{'s' * (trainer.step != 1)}"
    reporter.say(f"done: {taken}{skipped}, {count(trainer.images)} images in {duration(trainer.seconds)}")
    for note in data.trouble:
        if note not in data.notes:  # it was said before
            reporter.say(note)
    if (verdict := trainer.verdict) is not None:
        reporter.say(verdict)
        return _result(trainer, json, "finished", found)
    previews = sorted(run.samples.glob("step-*.png"))
    if previews:
        reporter.say(f"samples: {previews[-1]}")
    reporter.say(f"draw more samples: ancestral sample {run.path}")
    reporter.say(f"measure their quality: ancestral report {run.path}")
    return _result(trainer, json, "finished", found)


def _result(trainer: Any, json: bool, state: str, profiles: Sequence[Any] = ()) -> int:
    from ancestral.app.progress import emit

    if json:
        emit(
            {
                "run": str(trainer.run.path),
                "state": state,
                "step": trainer.step,
                "images": trainer.images,
                "skipped": trainer.skipped,
                "seconds": round(trainer.seconds, 2),
                "parameters": trainer.parameters,
            }
            | ({"profile": profiles[0].row()} if profiles else {})
        )
    return 0
