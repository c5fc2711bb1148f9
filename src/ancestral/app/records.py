"""JSON files with a checksum over all of their content, read in the form that the reader expects.

{"checksum": "5f0c...", "version": "0.2", ...}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from ancestral.errors import DamageError
from ancestral.files import disk_errors, read_json, write_atomically
from ancestral.runner import digest_of

T = TypeVar("T")


def write(file: Path, values: Mapping[str, Any]) -> None:
    """Write values with their checksum, atomically. Raises AncestralError if the disk is full."""
    with disk_errors(file):
        write_atomically(file, dump(values))


def dump(values: Mapping[str, Any]) -> bytes:
    """Return the content of a file of values."""
    plain = read_json(json.dumps(values))  # tuples become lists, and all names text, as they are read
    return json.dumps({"checksum": digest_of(plain), **plain}, indent=1).encode()


def read(
    file: Path, form: type[T], remedy: str, migrate: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: values
) -> T:
    """Read what `write` has written. Files of earlier versions have no checksum, but must have the form.

    Args:
        file: The file.
        form: The type of the values, e.g. a dataclass.
        remedy: What a person can do if it is damaged.
        migrate: A function that turns the values of an earlier version into those of today. It raises ValueError if they are
            damaged.

    Raises:
        FileNotFoundError: If there is no file.
        DamageError: If the file is damaged.
    """
    try:
        values = read_json(file.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("it has no names and values")
        values = migrate(values)
        checksum = values.pop("checksum", None)
        if checksum is not None and checksum != digest_of(values):
            raise ValueError("its content does not match its checksum")
        return formed(values, form)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamageError(f"{file} is damaged ({error}): {remedy}") from None


def formed(values: Any, form: type[T]) -> T:
    """Return plain values in a form. Raises ValueError, which names the first value that is wrong."""
    try:
        found: T = _adapter(cast(Any, form)).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    if is_dataclass(form) and (unknown := sorted(values.keys() - {field.name for field in fields(form)})):
        raise ValueError(f"it has an unknown entry {unknown[0]!r}")
    return found


@cache
def _adapter(form: Any) -> TypeAdapter[Any]:
    return TypeAdapter(form)
