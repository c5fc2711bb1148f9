"""The error of data that cannot be used."""

from ancestral.errors import AncestralError


class DataError(AncestralError):
    """The data cannot be used as they are. The message, one line, says which data, why, and what to do."""
