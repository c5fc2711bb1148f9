"""`ancestral train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


def train(
    source: str,
    *settings: str,
    model: str | None = None,
    budget: Annotated[str | None, Parameter(name="--for")] = None,
    out: Path | None = None,
    size: int | None = None,
    condition: tuple[str, ...] = (),
    hierarchy: int | None = None,
    bottleneck: Literal["gaussian", "vq"] | None = None,
    autoencoder: Path | None = None,
    seed: int | None = None,
    recipe: Path | None = None,
    track: tuple[str, ...] = (),
    evaluate_every: str | None = None,
    patience: int | None = None,
    print_recipe: bool = False,
    device: str = "auto",
    json: bool = False,
    quiet: Annotated[bool, Parameter(alias="-q")] = False,
) -> int:
    """Train a model of SOURCE, or continue the run that is in the folder.

    Parameters
    ----------
    source
        A built-in name (digits, fashion-mnist, moons, rings, gaussians, swiss-roll, scenes, scenes64), a folder of images, or
        an .npy, .npz or .parquet file.
    settings
        Further settings of the recipe as section.name=value, e.g. train.batch=128 model.schedule=linear. See --print-recipe.
    model
        The family: diffusion, score, vae, gan, latent.
    budget
        How long: 90s, 2m, 1h30m, 20000it or 5epochs. Left out: what suits the data.
    out
        The run folder. Left out: runs/NAME.
    size
        Resize and crop images to this many pixels a side.
    condition
        What generation shall be controlled by: class, text, layout, map, image, upscale, inpaint, sketch. May be repeated.
    hierarchy
        Of a VAE: so many groups of latents, from coarse to fine.
    bottleneck
        Of a VAE: gaussian, continuous latents, or vq, a codebook. Of a latent model set model.autoencoder.bottleneck.
    autoencoder
        Of a latent model: a trained one to take over, of a run of --model latent or vae or of a folder of diffusers'
        AutoencoderKL.
    seed
        Of weights, noise and order.
    recipe
        A recipe.yaml to begin from; other options override it.
    track
        Also send measurements to: tensorboard.
    evaluate_every
        Evaluator the model on the way each time so much has been trained, e.g. 2m or 1000it: a few samples, by kernel distance.
    patience
        Stop early after so many such evaluations in a row without a better one.
    print_recipe
        Print the complete recipe and stop.
    device
        auto, cpu, cuda or mps.
    json
        Print the result as JSON.
    quiet
        Print nothing on the way.
    """
    import time

    started = time.monotonic()
    from dataclasses import replace

    from ancestral.app.api import plan
    from ancestral.app.evaluation import Evaluator
    from ancestral.app.evaluation.live import evaluated
    from ancestral.app.progress import Reporter, count, duration, follow
    from ancestral.app.recipes.recipe import Recipe
    from ancestral.app.training.budget import Budget
    from ancestral.app.training.trackers import tracker
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
        condition=condition,
        autoencoder=autoencoder,
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
    evaluator = None
    if evaluate_every is not None:
        every = Budget.parse(evaluate_every)
        with reporter.live() as line:  # features of the real data are no part of the training time
            evaluator = Evaluator(planned.data, runtime=Runtime.choose(device, parameters=10**6), progress=line.update)
        planned = replace(planned, started=planned.started + time.monotonic() - begun)
    elif patience is not None:
        raise UsageError("--patience counts evaluations on the way: ask for them with --evaluate-every, e.g. 2m")
    trainer = planned.begin(reporter)
    run, data = trainer.run, trainer.data
    resumed = trainer.step > 0
    if resumed and trainer.progress >= 1:
        trainer.save()  # a kill between checkpoint and model, or a damaged model, is mended here
        reporter.say(f"{run.path} is finished: {trainer.step} steps in {duration(trainer.seconds)}. ")
        reporter.say(f"Sample from it with `ancestral sample {run.path}`, or train longer into another folder with --out.")
        return _result(trainer, json, "finished before")
    shape = "x".join(map(str, data.spec.shape))
    reporter.say(f"{data.spec.name}: {len(data.train):,} samples of {shape}, {len(data.test):,} held out")
    reporter.say(
        f"{trainer.recipe.model.family}, {count(trainer.parameters)} parameters, on {trainer.runtime}; "
        f"{'continuing at step ' + str(trainer.step) + ' of' if resumed else 'for'} {trainer.recipe.train.budget} in {run.path}"
    )
    steps = evaluated(trainer, evaluator, every, patience) if evaluator is not None else None
    stopped = follow(trainer, reporter, *(tracker(name, run) for name in track), steps=steps)
    if stopped is not None:
        reporter.say(f"stopped and saved at step {trainer.step}; continue with the same command")
        _result(trainer, json, "stopped")
        return 128 + stopped
    skipped = f", {trainer.skipped} skipped" if trainer.skipped else ""
    reporter.say(f"done: {trainer.step} steps{skipped}, {count(trainer.images)} images in {duration(trainer.seconds)}")
    previews = sorted(run.samples.glob("step-*.png"))
    if previews:
        reporter.say(f"samples: {previews[-1]}")
    reporter.say(f"more of them: ancestral sample {run.path}")
    reporter.say(f"how good they are: ancestral report {run.path}")
    return _result(trainer, json, "finished")


def _result(trainer: Any, json: bool, state: str) -> int:
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
        )
    return 0
