"""The reader of `.npy` and `.npz` files. All arrays that come from outside are read here.

The header of an array says its type and its shape. Both are checked against the bytes that are there, and against the limit on
memory (`bounded`), before any memory is taken. Members of an `.npz` are unpacked up to the size that their header says. Arrays
of Python objects, which could run code, are not read.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.lib import format as npy

from ancestral.app.data.bounded import check_memory, open_regular
from ancestral.app.data.errors import DataError
from ancestral.errors import UsageError

ZIP = b"PK"  # the first bytes of a zip, also of an empty one
MEMBERS = 10_000  # arrays in an `.npz` at most
LARGEST_HEADER = 10_000  # bytes
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes; other methods unpack without bound
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, LookupError, OverflowError)
OBJECTS = "holds Python objects, which are not loaded: save an array of numbers"


class ArrayError(ValueError):
    """An array cannot be read. The message is the end of a sentence about its file."""


@dataclass(frozen=True)
class _Header:
    """The header of an array. start: the place of its values in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_arrays(source: Path | bytes, wanted: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an `.npz` file by name, or that of an `.npy` file as `x`.

    Args:
        source: the file, or the content of one.
        wanted: the names of the arrays that are read. None: all.

    Raises:
        ArrayError: if the content is damaged, or of another format.
        DataError: if the arrays need more memory than allowed, or if the path is no regular file.
        OSError: if the file cannot be read.
    """
    name = "the array file" if isinstance(source, bytes) else str(source)
    with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file:
        size = len(source) if isinstance(source, bytes) else os.fstat(file.fileno()).st_size
        start = file.read(len(npy.MAGIC_PREFIX))
        file.seek(0)
        if start.startswith(ZIP):
            return _members(file, name, None if wanted is None else set(wanted))
        if start != npy.MAGIC_PREFIX:
            raise ArrayError("is damaged or of another format: its first bytes are not those of an array")
        header = _header(file)
        _check_size(header, size)
        check_memory(name, header.nbytes)
        return {"x": _values(file, header)}


def map_array(path: Path) -> np.ndarray:
    """Map the array of an `.npy` file into memory. The errors are those of `read_arrays`."""
    with open_regular(path) as file:
        header = _header(file)
        _check_size(header, os.fstat(file.fileno()).st_size)
        order = "F" if header.fortran else "C"
        return np.memmap(file, header.dtype, mode="r", offset=header.start, shape=header.shape, order=order)  # type: ignore[call-overload, no-any-return]


def _members(file: IO[bytes], name: str, wanted: set[str] | None) -> dict[str, np.ndarray]:
    """Read the arrays of a zip. Members that are no arrays are left out."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if not info.is_dir()}
            if wanted is not None:
                members = {key: info for key, info in members.items() if key in wanted}
            if len(members) > MEMBERS:
                raise ArrayError(f"holds {len(members):,} files, and at most {MEMBERS:,} are read: save fewer arrays")
            for key, info in members.items():
                if info.flag_bits & 1:
                    raise ArrayError(f"is encrypted (array {key}): save it without a password")
                if info.compress_type not in PACKED:
                    raise ArrayError(
                        f"is compressed in a way that numpy does not write (array {key}): save it with numpy.savez"
                    )
            check_memory(name, sum(info.file_size for info in members.values()), "its arrays need")
            return {key: array for key, info in members.items() if (array := _member(archive, info, key)) is not None}
    except (ArrayError, UsageError):
        raise
    except ZIP_ERRORS as error:
        raise ArrayError("is damaged or of another format: it is not a complete .npz file") from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str) -> np.ndarray | None:
    with archive.open(info) as member:
        if not cast(zipfile.ZipExtFile, member).peek(len(npy.MAGIC_PREFIX)).startswith(npy.MAGIC_PREFIX):
            return None
        try:
            header = _header(member)
            _check_size(header, info.file_size)
            return _values(member, header)
        except ArrayError as error:
            raise ArrayError(f"{error} (array {key})") from error


def _header(file: IO[bytes]) -> _Header:
    try:
        version = npy.read_magic(file)
        read: Any = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ArrayError(f"is of version {version[0]}.{version[1]} of the format, which is unknown: save it again")
        shape, fortran, dtype = read(file, max_header_size=LARGEST_HEADER)
    except (ArrayError, OSError):
        raise
    except Exception as error:  # numpy's parser of headers raises errors of many types
        raise ArrayError("is damaged or of another format: its header cannot be read") from error
    if dtype.hasobject:
        raise ArrayError(OBJECTS)
    wrong = any(type(n) is not int or n < 0 for n in shape) or len(shape) > 32
    if wrong or not dtype.itemsize or dtype.subdtype is not None:
        raise ArrayError(f"is damaged: its header says the shape {_short(shape)} of the type {_short(dtype)}")
    return _Header(shape, dtype, bool(fortran), file.tell())


def _check_size(header: _Header, size: int) -> None:
    """Raise `ArrayError` unless the file, of `size` bytes, holds all values."""
    if header.nbytes > (there := size - header.start):
        raise ArrayError(
            f"is damaged or not complete: its header says the shape {_short(header.shape)} of the type {_short(header.dtype)}, "
            f"which are {_bytes(header.nbytes)}, and it holds {_bytes(there)}"
        )


def _values(file: IO[bytes], header: _Header) -> np.ndarray:
    array = np.empty(math.prod(header.shape), header.dtype)
    if array.size:
        view, done = array.view(np.uint8), 0
        while done < len(view):
            part = file.read(min(1 << 24, len(view) - done))
            if not part:
                raise ArrayError("is damaged or not complete: it ends early")
            view[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
    try:
        return array.reshape(header.shape, order="F" if header.fortran else "C")
    except (ValueError, OverflowError) as error:  # no values, and other axes that are too long
        raise ArrayError(f"is damaged: its header says the shape {_short(header.shape)}") from error


def _bytes(n: int) -> str:
    return f"{n:,} bytes" if n < 10**15 else f"{float(min(n, 10**300)):.0e} bytes"


def _short(value: object) -> str:
    try:
        text = str(value)
    except ValueError:  # a number of more digits than Python writes
        text = "of a huge number"
    return text if len(text) < 100 else f"{text[:100]}..."


def array_of(content: bytes) -> np.ndarray:
    """Return the array of the content of an `.npy` file. Raises `ArrayError` if it is damaged or of another format."""
    if content.startswith(ZIP):
        raise ArrayError("is an .npz file where an .npy file is expected")
    try:
        return read_arrays(content)["x"]
    except DataError as error:
        raise ArrayError(str(error)) from error
