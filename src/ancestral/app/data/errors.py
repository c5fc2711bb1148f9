"""The error of data that cannot be used, and names from data in messages."""

from ancestral.errors import AncestralError


def printable(text: str) -> str:
    """Write control characters as escapes, so that a name from data can form neither a line nor a colour of its own."""
    known = text.encode(errors="replace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in known)


class DataError(AncestralError):
    """The data cannot be used as they are. The message, one line, says which data, why, and what to do."""

    def __init__(self, message: str):
        super().__init__(printable(message))
