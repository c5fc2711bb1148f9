"""Requests for guidance: its strength, and the condition or model from which it leads away."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ancestral.app.training.saved import Opened, opened
from ancestral.errors import UsageError
from ancestral.models import GenerativeModel
from ancestral.models.denoising import DenoisingModel
from ancestral.models.latent import LatentModel


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Options of all kinds of guidance. None means the default.

    Args:
        scale: 0 ignores the condition, 1 is as trained, above 1 is sharper and less varied.
        interval: the noise levels sigma/alpha between which guidance acts. None: all.
        rescale: the share of the added contrast that is removed, from 0 to 1.
        negative: the condition from which guidance leads away, e.g. `{"text": "blurry"}`. None: no condition at all.
        autoguide: a weaker model from which guidance leads away: a model, the folder of a run, or the step of a stored
            checkpoint of the run itself.
    """

    scale: float | None = None
    interval: tuple[float, float] | None = None
    rescale: float | None = None
    negative: Mapping[str, Any] | None = None
    autoguide: GenerativeModel | Path | str | int | None = None

    def asked(self) -> list[str]:
        """Return the names of the given options, as `model.sample` has them."""
        given = {
            "guidance": self.scale,
            "interval": self.interval,
            "rescale": self.rescale,
            "negative": self.negative,
            "autoguide": self.autoguide,
        }
        return [name for name, value in given.items() if value is not None]

    def options(self, model: GenerativeModel, conditions: Collection[str], run: Opened | None = None) -> dict[str, Any]:
        """Return the options of `model.sample`, without those that were not given.

        Args:
            model: the model that is guided.
            conditions: the kinds of condition that are given.
            run: the run of the model, whose checkpoints `autoguide` can name.

        Raises:
            UsageError: if guidance lacks a condition, a weaker model or a strength.
        """
        if not (names := self.asked()):
            return {}
        denoiser = denoising(model)
        if not conditions and self.autoguide is None:
            raise UsageError(
                f"`{names[0]}` needs a condition or a weaker model: give one with `class`, `prompt` or another condition, or "
                "with `autoguide`"
            )
        usual = 1.0 if denoiser is None else denoiser.usual_guidance(conditions)
        if self.scale is None and (self.autoguide is not None or usual == 1):
            raise UsageError(f"`{names[0]}` needs a strength: give it with `guidance`, e.g. `guidance=2`")
        how: dict[str, Any] = {
            "guidance": self.scale,
            "interval": self.interval,
            "rescale": self.rescale,
            "negative": self.negative,
        }
        if self.autoguide is not None:
            if denoiser is None:
                raise UsageError("`autoguide` needs a model that denoises: train one of the family diffusion or score")
            how["weak"] = self._weak(model, run, self.autoguide)
        return {name: value for name, value in how.items() if value is not None}

    @staticmethod
    def _weak(model: GenerativeModel, run: Opened | None, autoguide: GenerativeModel | Path | str | int) -> GenerativeModel:
        if isinstance(autoguide, GenerativeModel):
            weak = autoguide
        elif not str(autoguide).isdecimal():
            weak = opened(autoguide).load_model(str(model.device))  # type: ignore[arg-type]
        elif run is None:
            raise UsageError("`autoguide` is the step of a checkpoint: sample from the run that has it, or give a model")
        else:
            weak = run.load_model(str(model.device), step=int(str(autoguide)))
        if denoising(weak) is None:
            which = "`autoguide`" if isinstance(autoguide, GenerativeModel) else f"the model of {autoguide}"
            raise UsageError(f"{which} does not denoise, so it cannot guide a model that does")
        return weak


def denoising(model: GenerativeModel) -> DenoisingModel | None:
    """Return the part of a model that denoises: the model itself, the prior of its latents, or None."""
    denoiser = model.prior if isinstance(model, LatentModel) else model
    return denoiser if isinstance(denoiser, DenoisingModel) else None
