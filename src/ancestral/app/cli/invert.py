"""The command `ancestral sample RUN --invert IMAGE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ancestral.app.data.spec import DataSpec
    from ancestral.app.progress import Reporter
    from ancestral.models import GenerativeModel

STARTS = 256  # random latents among which the search begins


def invert(
    model: GenerativeModel,
    spec: DataSpec,
    image: Path,
    out: Path,
    *,
    seed: int,
    condition: dict[str, Any],
    reporter: Reporter,
    json: bool,
) -> int:
    """Find the latent of a picture. Write the picture (above) and the decoded latent (below)."""
    import math

    import numpy as np
    import torch

    from ancestral.app.cli.conditions import as_options
    from ancestral.app.pictures import save_grid
    from ancestral.app.progress import emit
    from ancestral.app.sampling.pictures import read_picture
    from ancestral.errors import UsageError
    from ancestral.files import disk_errors, write_atomically
    from ancestral.models import HasDecoder, HasLatent, seeds_from
    from ancestral.models.inversion import Inversion
    from ancestral.models.inversion import invert as search
    from ancestral.noise import SampleNoise

    if not isinstance(model, HasDecoder):
        raise UsageError(
            "--invert needs a model with a decoder of latents, and this one has none: train one with `ancestral train SOURCE "
            "--model gan`"
        )
    with as_options():
        target = read_picture(image, spec, "invert").to(model.device)
    coder: Any = model
    if isinstance(coder, HasLatent):  # its encoder, or its ODE, finds the latent
        with model.inference():
            z = coder.encode(target, condition)
            x = coder.decode(z, condition)
        found = Inversion(z, x, (x - target).square().mean().item(), 1.0)
    else:
        noise, std = SampleNoise(seeds_from(seed, STARTS), model.device), sum(spec.std) / len(spec.std)
        with reporter.live() as line:
            for found in search(lambda z: model.decode(z, condition), target, model.latent_shape, noise, std=std):
                line.update(f"{found.done:4.0%}  mean square error {found.error:.5f}")
    low, high = spec.range or (0.0, 1.0)
    psnr = 10 * math.log10((high - low) ** 2 / max(found.error, 1e-12))
    with disk_errors(out.parent):
        if out.suffix.lower() == ".png":
            save_grid(torch.cat([target, found.x]), out, spec, columns=1, rows=("picture", "reconstruction"))
        else:
            from io import BytesIO

            buffer = BytesIO()
            np.savez_compressed(buffer, x=target.cpu().numpy(), reconstruction=found.x.cpu().numpy(), z=found.z.cpu().numpy())
            write_atomically(out, buffer.getvalue())
    size = found.z.square().mean().sqrt().item()
    reporter.say(f"{image} and its reconstruction, {psnr:.1f} dB, from a latent of size {size:.2f} (1 is typical): {out}")
    if json:
        emit({"out": str(out), "psnr": round(psnr, 2), "mse": found.error, "latent_size": round(size, 3)})
    return 0
