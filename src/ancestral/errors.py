"""Errors for users. The message of each says what is wrong, where, and what to do."""

LONGEST = 4000  # characters of a message; names and values from data may have any length


def printable(text: str) -> str:
    """Write control characters as escapes, so that a name from data can form neither a line nor a colour of its own."""
    known = text.encode(errors="replace").decode()
    return known if known.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in known)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class AncestralError(Exception):
    """The work cannot go on. A command ends with exit code 1.

    The message is one line. Control characters in it, which names from data may bring, are written as escapes.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message if len(message) <= LONGEST else f"{message[:LONGEST]}..."))


class UsageError(AncestralError, ValueError):
    """The request itself is wrong: an unknown name, a bad option. A command ends with exit code 2."""

    exit_code = 2


class DamageError(AncestralError):
    """A file is damaged. The message names it."""


class DiskError(AncestralError):
    """A file cannot be written, as on a full disk. What was written before is whole."""


class NoLikelihoodError(UsageError):
    """The model has no likelihood for these data."""
