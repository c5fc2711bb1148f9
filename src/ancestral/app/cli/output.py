"""The encoding of standard output and standard error, which may have fewer characters than a command prints."""

from __future__ import annotations

import codecs
import io
import unicodedata
from collections.abc import Iterable
from typing import TextIO

PLAIN = dict(zip("▁▂▃▄▅▆▇█━╌─│└●×−", "_.:-=+*##--|+*x-", strict=True))
PLAIN |= {"±": "+-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "→": "->", "←": "<-", "⇒": "=>", "√": "sqrt", "…": "..."}


def plain(character: str) -> str:
    """Return ASCII characters that stand for one character, such as +- for ± and alpha for α. Others become an escape."""
    if character in PLAIN:
        return PLAIN[character]
    alphabet, _, letter = unicodedata.name(character, "").partition(" LETTER ")
    if alphabet in ("GREEK SMALL", "GREEK CAPITAL"):
        return letter.lower() if alphabet == "GREEK SMALL" else letter.capitalize()
    similar = unicodedata.normalize("NFKD", character).replace("⁄", "/").encode("ascii", "ignore").decode()
    return similar or character.encode("ascii", "backslashreplace").decode()


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(plain, error.object[error.start : error.end])), error.end


def print_everywhere(streams: Iterable[TextIO]) -> None:
    """Let streams of any encoding print every text: characters that an encoding lacks are replaced as by `plain`."""
    codecs.register_error("ancestral.plain", _replace)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ancestral.plain")
