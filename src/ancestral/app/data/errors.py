"""The error of this room."""

from ancestral.errors import AncestralError


class DataError(AncestralError):
    """The data cannot be used as they are; the sentence says which, why, and what to do."""
