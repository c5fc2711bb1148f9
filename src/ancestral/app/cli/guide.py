"""The options of `ancestral sample` that say how strongly, and away from what, samples are guided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ancestral.app.training.run import Run
    from ancestral.models import GenerativeModel
    from ancestral.models.denoising import DenoisingModel


def guidance_options(
    run: Run,
    model: GenerativeModel,
    *,
    guidance: float | None,
    interval: str | None,
    rescale: float | None,
    negative: Mapping[str, Any] | None,
    autoguide: str | None,
    condition: Mapping[str, Any],
) -> dict[str, Any]:
    """The options of the family's walk, without those that were left out.

    autoguide: a step of the run's checkpoints, or another run's folder. condition: what is asked for.
    Raises UsageError for guidance that has nothing to go to or away from.
    """
    from ancestral.app.training.run import Run
    from ancestral.errors import UsageError

    asked = {"guidance": guidance, "interval": interval, "rescale": rescale, "negative": negative, "autoguide": autoguide}
    names = [f"--{name}" for name, value in asked.items() if value is not None]
    if not names:
        return {}
    denoiser = denoising(model)
    if not condition and autoguide is None:
        raise UsageError(
            f"{names[0]} says how strongly a condition rules: give one with --class or --prompt, or a weaker model with "
            "--autoguide"
        )
    if guidance is None and (autoguide is not None or denoiser is None or denoiser.usual_guidance(condition) == 1):
        raise UsageError(f"{names[0]} needs a strength: say how far to go with --guidance, e.g. --guidance 2")
    how: dict[str, Any] = {
        "guidance": guidance,
        "interval": _interval(interval),
        "rescale": rescale,
        "negative": negative,
    }
    if autoguide is not None:
        if denoiser is None:
            raise UsageError("--autoguide needs a model that denoises: train one with --model diffusion or --model score")
        weak = (
            run.load_model(str(model.device), step=int(autoguide))
            if autoguide.isdecimal()
            else Run.existing(autoguide).load_model(str(model.device))
        )
        if denoising(weak) is None:
            raise UsageError(f"the model of {autoguide} does not denoise, so it cannot guide one that does")
        how["weak"] = weak
    return {name: value for name, value in how.items() if value is not None}


def denoising(model: GenerativeModel) -> DenoisingModel | None:
    """What of a model denoises: itself, or the prior of its latents."""
    from ancestral.models.denoising import DenoisingModel
    from ancestral.models.latent import LatentModel

    denoiser = model.prior if isinstance(model, LatentModel) else model
    return denoiser if isinstance(denoiser, DenoisingModel) else None


def _interval(text: str | None) -> tuple[float, float] | None:
    from ancestral.errors import UsageError

    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"cannot read the interval {text!r}: write two noise levels sigma/alpha, e.g. 0.2,5") from None
    return low, high
