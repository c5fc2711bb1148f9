"""The Inception network of the standard FID, for users who have its weights.

This is Inception v3 (Szegedy et al. 2015, arXiv:1512.00567) as TensorFlow's graph of 2015-12-05 computes it: average pooling
that does not count its padding, a maximum in the last block's pooling branch, bilinear resizing without half-pixel centres. The
features are the 2048 means before the classifier. The weights (`pt_inception-2015-12-05-6726825d.pth`, as pytorch-fid and
torch-fidelity download them) are in no package, so no figure is called FID unless the user has them.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ancestral.app.evaluation.extractors.base import Pictures
from ancestral.errors import AncestralError
from ancestral.runtime import Runtime

FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
SHA256 = "6726825d"  # the first digits of the file's hash
SIDE = 299

Kernel = int | tuple[int, int]


class Conv(nn.Module):
    """Convolution, batch norm with eps = 0.001, ReLU. The padding keeps the size, except with `valid` or a `stride` above 1."""

    def __init__(self, c_in: int, c_out: int, kernel: Kernel, stride: int = 1, valid: bool = False):
        super().__init__()
        k = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if valid or stride > 1 else (k[0] // 2, k[1] // 2)
        self.conv = nn.Conv2d(c_in, c_out, k, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


_average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_maximum = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
_halve = partial(F.max_pool2d, kernel_size=3, stride=2)


class BlockA(nn.Module):
    def __init__(self, c: int, pooled: int):
        super().__init__()
        self.branch1x1 = Conv(c, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Conv(c, 48, 1), Conv(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3 = Conv(c, 64, 1), Conv(64, 96, 3), Conv(96, 96, 3)
        self.branch_pool = Conv(c, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(_average(x))], 1)


class BlockB(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.branch3x3 = Conv(c, 384, 3, 2)
        self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3 = Conv(c, 64, 1), Conv(64, 96, 3), Conv(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, _halve(x)], 1)


class BlockC(nn.Module):
    def __init__(self, c: int, mid: int):
        super().__init__()
        self.branch1x1 = Conv(c, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = Conv(c, mid, 1), Conv(mid, mid, (1, 7))
        self.branch7x7_3 = Conv(mid, 192, (7, 1))
        self.branch7x7dbl_1, self.branch7x7dbl_2 = Conv(c, mid, 1), Conv(mid, mid, (7, 1))
        self.branch7x7dbl_3, self.branch7x7dbl_4 = Conv(mid, mid, (1, 7)), Conv(mid, mid, (7, 1))
        self.branch7x7dbl_5 = Conv(mid, 192, (1, 7))
        self.branch_pool = Conv(c, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_average(x))], 1)


class BlockD(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(c, 192, 1), Conv(192, 320, 3, 2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Conv(c, 192, 1), Conv(192, 192, (1, 7))
        self.branch7x7x3_3, self.branch7x7x3_4 = Conv(192, 192, (7, 1)), Conv(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, _halve(x)], 1)


class BlockE(nn.Module):
    def __init__(self, c: int, maximum: bool):
        super().__init__()
        self.pool = _maximum if maximum else _average
        self.branch1x1 = Conv(c, 320, 1)
        self.branch3x3_1 = Conv(c, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = Conv(384, 384, (1, 3)), Conv(384, 384, (3, 1))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(c, 448, 1), Conv(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = Conv(384, 384, (1, 3)), Conv(384, 384, (3, 1))
        self.branch_pool = Conv(c, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(self.pool(x))]
        return torch.cat(parts, 1)


class Inception(nn.Module):
    """The network from images `(n, 3, h, w)` in [0, 1] to features `(n, 2048)`. Its parts have the names in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3, self.Conv2d_2b_3x3 = Conv(32, 32, 3, valid=True), Conv(32, 64, 3)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80, 1), Conv(80, 192, 3, valid=True)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(768, 128), BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = BlockC(768, 160), BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, maximum=False), BlockE(2048, maximum=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> Tensor:
        x = (resize(x * 255, SIDE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halve(x))))
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = getattr(self, f"Mixed_{name}")(x)
        return x.mean((2, 3))


def resize(x: Tensor, side: int) -> Tensor:
    """Resize bilinearly to side x side as TensorFlow 1 did: pixel i is read at i * (old / new), without half-pixel centres."""
    rows, columns = (_weights(old, side).to(x) for old in x.shape[-2:])
    return rows @ x @ columns.T


def _weights(old: int, new: int) -> Tensor:
    """Return the matrix `(new, old)` of linear interpolation along one axis."""
    position = torch.arange(new, dtype=torch.float64) * (old / new)
    low = position.floor().long().clamp(max=old - 1)
    high = (low + 1).clamp(max=old - 1)
    share = position - low
    matrix = torch.zeros(new, old, dtype=torch.float64)
    matrix.scatter_add_(1, low[:, None], (1 - share)[:, None])
    return matrix.scatter_add_(1, high[:, None], share[:, None])


def find(weights: Path | None = None) -> Path | None:
    """Return the file of weights: the given one, or one that another program stored in torch's cache, or None."""
    if weights is not None:
        return weights
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    return next((cache / name for name in FILES if (cache / name).is_file()), None)


def inception(runtime: Runtime, weights: Path | None = None) -> Pictures:
    """Make the extractor of the standard FID. Raises AncestralError if the weights are missing or not the right ones."""
    file = find(weights)
    if file is None or not file.is_file():
        raise AncestralError(
            f"the standard FID needs the file {FILES[0]}{f', and {file} does not exist' if file else ''}: "
            "give its path with --inception-weights, or choose another extractor"
        )
    if not hashlib.sha256(file.read_bytes()).hexdigest().startswith(SHA256):
        raise AncestralError(f"{file} does not hold the weights of the standard FID (its SHA-256 must begin with {SHA256})")
    network = Inception()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    exact = Runtime(runtime.device)
    return Pictures("inception", network, "the Inception network of the standard FID", exact, colour=True)
