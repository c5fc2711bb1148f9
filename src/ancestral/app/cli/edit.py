"""The options of `ancestral sample` that begin with a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ancestral.app.data.spec import DataSpec
    from ancestral.models import GenerativeModel
    from ancestral.models.edits import Edit

N = 16  # samples of one picture, where no number is asked for


@dataclass(frozen=True)
class Editing:
    """What was asked for, as it was written."""

    inpaint: Path | None = None
    mask: Path | None = None
    upscale: Path | None = None
    vary: Path | None = None
    strength: float | None = None

    def check(self) -> None:
        """Raises UsageError for options that do not fit together."""
        from ancestral.errors import UsageError

        if self.inpaint is not None and self.mask is None:
            raise UsageError("--inpaint needs --mask, a picture of the same size that is white where new pixels are wanted")
        if self.mask is not None and self.inpaint is None:
            raise UsageError("--mask says what of a picture is new: give the picture with --inpaint")
        if self.strength is not None and self.vary is None:
            raise UsageError("--strength says how much of a picture changes: give the picture with --vary")

    def edit(self, model: GenerativeModel, spec: DataSpec) -> tuple[Edit | None, dict[str, Any]]:
        """The edit of samples of that model, and the condition that goes with it where the model was trained for such edits.

        Raises UsageError if the pictures do not fit it, or it has no denoiser.
        """
        from ancestral.app.cli.guide import denoising
        from ancestral.app.cli.picture import header, read_picture
        from ancestral.errors import UsageError
        from ancestral.models.edits import Inpaint, Upscale, Vary

        given = {"--inpaint": self.inpaint, "--upscale": self.upscale, "--vary": self.vary}
        option, picture = next(((name, path) for name, path in given.items() if path is not None), (None, None))
        if option is None or picture is None:
            return None, {}
        denoiser = denoising(model)
        trained, denoises = option[2:] in model.conditioner.kinds, denoiser is model
        if not denoises and not trained and (self.vary is None or denoiser is None):
            taught = "" if self.vary is not None else f", or any with --condition {option[2:]}"
            raise UsageError(f"{option} needs a model that denoises: train one with --model diffusion or --model score{taught}")
        if self.vary is not None:
            return Vary(read_picture(picture, spec, option), 0.5 if self.strength is None else self.strength), {}
        if self.mask is not None:
            x, known = read_picture(picture, spec, option), self._known(picture, self.mask, spec, option)
            if not trained:
                return Inpaint(x, known), {}
            return Inpaint(x, known, repeats=1) if denoises else None, {"inpaint": (x[0], known[0, 0])}
        small = header(picture)
        y = read_picture(picture, spec, option, (small.height, small.width))
        return (None, {"upscale": y[0]}) if trained else (Upscale(y), {})

    def kept(self, x: Tensor, given: dict[str, Any]) -> Tensor:
        """Samples with what is known of the picture put back, which only some models keep by themselves."""
        if "inpaint" not in given:
            return x
        picture, known = given["inpaint"]
        filled: Tensor = picture.to(x).where(known.to(x.device), x)
        return filled

    @staticmethod
    def _known(picture: Path, mask: Path, spec: DataSpec, option: str) -> Tensor:
        """Where the mask is dark, `(1, 1, h, w)`. Raises UsageError if it is of another size than the picture."""
        from dataclasses import replace

        from ancestral.app.cli.picture import header, read_picture
        from ancestral.errors import UsageError

        a, b = header(picture), header(mask)
        if (a.height, a.width) != (b.height, b.width):
            raise UsageError(
                f"the mask {mask} has {b.width}x{b.height} pixels and {picture} {a.width}x{a.height}: both need the same size"
            )
        read_picture(picture, spec, option)  # whether samples are pictures at all
        grey = replace(spec, shape=(1, *spec.shape[1:]), range=(0.0, 1.0), levels=None)
        known = read_picture(mask, grey, "--mask") < 0.5
        if bool(known.all()):
            raise UsageError(f"the mask {mask} is white nowhere, so nothing is new: paint white what is to be filled in")
        return known
