"""The message for an unknown name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Return one line, e.g.: unknown solver 'hean': did you mean 'heun'? Known: ..."""
    known = list(known)
    close = get_close_matches(str(name).lower().replace("_", "-"), known, n=1)
    hint = f": did you mean {close[0]!r}?" if close else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}"
