"""Fingerprints of data. A run compares them to check that it continues with the data with which it began."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Protocol, cast

import numpy as np

from ancestral.app.data.columns import Column, Texts
from ancestral.app.data.streamed import Streamed

# Columns that the fingerprint of a data set covers, and the names under which they are hashed. The names are those of the first
# version, so that its runs can be continued. Texts are hashed with the head.
HASHED = {"class": "labels", "boxes": "boxes", "map": "maps", "image": "paired"}
COVERED = frozenset({"x", "text", *HASHED})


class Columns(Protocol):
    """Columns by name, such as a `Split`."""

    def __contains__(self, name: object) -> bool: ...

    def __getitem__(self, name: str) -> Column: ...


def fingerprint(columns: Columns, levels: int | None) -> str:
    """Return a 16-byte BLAKE2b hash, in hexadecimal, of the samples and of their columns in `COVERED`.

    Other columns are not hashed, because earlier versions did not read them and the fingerprint must stay the same. A run adds
    the columns of its conditions; see `extended`.
    """
    x = columns["x"].values
    texts = cast(Texts, columns["text"]).rows if "text" in columns else None
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([tuple(x.shape), str(x.dtype), levels, texts]).encode())
    digest.update(_bytes(columns["x"]))
    for name, hashed in HASHED.items():
        if name in columns:
            digest.update(hashed.encode())
            digest.update(_bytes(columns[name]))
    return digest.hexdigest()


def of_sample(fingerprint: str, column: Streamed) -> str:
    """Return the fingerprint of samples that are read on demand, from that of a sample of them and the column of all."""
    return hashlib.blake2b(f"{fingerprint} {len(column)} {column.source.identity}".encode(), digest_size=16).hexdigest()


def extended(fingerprint: str, columns: Mapping[str, Column]) -> str:
    """Return a fingerprint that also covers further columns. Without columns it is the given fingerprint."""
    if not columns:
        return fingerprint
    digest = hashlib.blake2b(fingerprint.encode(), digest_size=16)
    for name, column in sorted(columns.items()):
        content = column.content()
        digest.update(json.dumps([name, column.kind, tuple(content.shape), str(content.dtype)]).encode())
        digest.update(_bytes(column))
    return digest.hexdigest()


def _bytes(column: Column) -> memoryview:
    return column.content().contiguous().numpy().reshape(-1).view(np.uint8).data
