"""Quality of reconstructions: the error, and for pictures in [0, 1] PSNR and SSIM."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ancestral.registry import register

WINDOW, WIDTH = 11, 1.5  # pixels, and the deviation of their Gaussian weights
C1, C2 = 0.01**2, 0.03**2
PART = 64  # pictures whose windows are in memory at a time


def fidelity(x: Tensor, y: Tensor, bounds: tuple[float, float] | None) -> dict[str, float]:
    """Compare samples x with reconstructions y: the means of {"psnr", "ssim"} of pictures in [0, 1], {"rmse"} of others.

    `bounds` is the range of the data, or None.
    """
    if x.ndim == 4 and bounds == (0.0, 1.0):
        return {"psnr": float(psnr(x, y).mean()), "ssim": float(ssim(x, y).mean())}
    return {"rmse": float((x - y).square().mean().sqrt())}


def words(found: Mapping[str, float]) -> str:
    """Write the result of `fidelity` in words."""
    return f"PSNR {found['psnr']:.1f} dB  SSIM {found['ssim']:.3f}" if "psnr" in found else f"rmse {found['rmse']:.4f}"


@register(
    "metric",
    "psnr",
    "how close reconstructions of held-out samples are, in decibels",
    better="higher",
    takes="evaluator",
)
def psnr(x: Tensor, y: Tensor) -> Tensor:
    """-10 log10 of the mean squared error of each picture `(n,)`, in decibels, at most 100."""
    return -10 * (x - y).square().flatten(1).mean(1).clamp(min=1e-10).log10()


@register(
    "metric",
    "ssim",
    "structural similarity of reconstructions and held-out samples, at most 1",
    better="higher",
    takes="evaluator",
)
def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each picture `(n,)` (Wang et al. 2004, eq. 13), from -1 to 1:

    (2 mu_x mu_y + C1)(2 s_xy + C2) / ((mu_x^2 + mu_y^2 + C1)(s_x^2 + s_y^2 + C2)), averaged over the
    windows about all positions of `(n, c, h, w)`; beyond its borders a picture is its reflection.
    """
    return torch.cat([_ssim(a, b) for a, b in zip(x.split(PART), y.split(PART), strict=True)])


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    size = min(WINDOW, *(2 * side - 1 for side in x.shape[2:]))
    line = torch.exp(-((torch.arange(size, device=x.device) - size // 2) ** 2) / (2 * WIDTH**2))
    window = (torch.outer(line, line) / line.sum() ** 2).expand(x.shape[1], 1, size, size).to(x.dtype)
    x, y = (F.pad(v, [size // 2] * 4, mode="reflect") for v in (x, y))
    maps = torch.cat([x, y, x * x, y * y, x * y])
    mu_x, mu_y, xx, yy, xy = F.conv2d(maps, window, groups=x.shape[1]).chunk(5)
    s_xx, s_yy, s_xy = xx - mu_x**2, yy - mu_y**2, xy - mu_x * mu_y
    values = (2 * mu_x * mu_y + C1) * (2 * s_xy + C2) / ((mu_x**2 + mu_y**2 + C1) * (s_xx + s_yy + C2))
    return values.flatten(1).mean(1)
