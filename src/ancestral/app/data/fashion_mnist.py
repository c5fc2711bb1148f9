"""The data set `fashion-mnist`: 70,000 pictures of garments by Zalando (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747).

Its licence is MIT. The files are read from the folder of Debian's package `dataset-fashion-mnist`, else from the user's cache,
else fetched once from the address that the authors publish. A fetched file is checked by the SHA-256 of its decompressed
content, which does not depend on the compression.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import shutil
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from ancestral.app.data.assemble import assemble
from ancestral.app.data.cache import cache_dir
from ancestral.app.data.dataset import DataSet, Split
from ancestral.app.data.errors import DataError
from ancestral.files import write_atomically

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


def fashion_mnist(
    *,
    debian: Path = DEBIAN,
    address: str = ADDRESS,
    sha256: Mapping[str, str] = SHA256,
    progress: Callable[[int, int], None] | None = None,
) -> DataSet:
    """Load 60,000 training and 10,000 test images of shape (1, 28, 28) with 256 levels and 10 classes.

    Args:
        debian: the folder of Debian's package.
        address: the address from which files are fetched.
        sha256: the expected hash of each file.
        progress: called with (files fetched, 4) if files must be fetched.

    Raises:
        DataError: if the files are damaged, or are not on this machine and cannot be fetched.
    """
    folder = debian
    if not _complete(folder, sha256):
        folder = cache_dir() / "fashion-mnist"
    if not _complete(folder, sha256):
        _fetch_all(folder, address, sha256, progress)
    train, test = (_split(folder, part) for part in ("train", "t10k"))
    return assemble("fashion-mnist", train, test, levels=256, classes=CLASSES)


def read_idx(path: Path) -> np.ndarray:
    """Read the uint8 array of a gzipped IDX file: two zero bytes, type 8, number of axes, their big-endian lengths, values.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
        if len(content) < 4 or content[:3] != b"\0\0\x08":
            raise DataError(f"{path} is not an IDX file of bytes: delete it and fetch it again")
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4).astype(np.int64)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])
        return values.reshape(shape).copy()
    except (*DAMAGED, ValueError) as error:
        raise DataError(f"{path} is damaged or incomplete: delete it and fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error


def _complete(folder: Path, names: Mapping[str, str]) -> bool:
    return all((folder / name).is_file() for name in names)


def _split(folder: Path, part: str) -> Split:
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    if images.ndim != 3 or labels.shape != images.shape[:1] or int(labels.max(initial=0)) >= len(CLASSES):
        raise DataError(
            f"the {part} files in {folder} do not belong together (images {images.shape}, labels {labels.shape}): "
            "delete them and fetch them again"
        )
    return Split({"x": torch.from_numpy(images).unsqueeze(1), "class": torch.from_numpy(labels.astype(np.int64))})


def _fetch_all(folder: Path, address: str, sha256: Mapping[str, str], progress: Callable[[int, int], None] | None) -> None:
    for done, (name, expected) in enumerate(sha256.items(), start=1):
        if not (folder / name).is_file():
            try:
                write_atomically(folder / name, partial(_fetch, f"{address}/{name}", expected))
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
                raise DataError(
                    f"fashion-mnist is not on this machine and could not be fetched from {address} ({reason}): "
                    "run `apt-get install dataset-fashion-mnist` (Debian, Ubuntu), or put its four files "
                    f"({', '.join(sha256)}) into {folder}"
                ) from error
        if progress:
            progress(done, len(sha256))


def _fetch(url: str, expected: str, file: BinaryIO) -> None:
    """Copy `url` into `file`. Raises `DataError` if the SHA-256 of the decompressed content is not `expected`."""
    with urllib.request.urlopen(url, timeout=30) as response:
        shutil.copyfileobj(response, file)
    file.seek(0)
    digest = hashlib.sha256()
    try:
        with gzip.open(file) as content:
            while block := content.read(1 << 20):
                digest.update(block)
    except DAMAGED:
        digest = hashlib.sha256()
    if digest.hexdigest() != expected:
        raise DataError(f"{url} is not the file that its authors published (its SHA-256 differs): try again later")
