"""Errors for users. The message of each says what is wrong, where, and what to do."""


class AncestralError(Exception):
    """The work cannot go on. A command ends with exit code 1."""

    exit_code = 1


class UsageError(AncestralError, ValueError):
    """The request itself is wrong: an unknown name, a bad option. A command ends with exit code 2."""

    exit_code = 2


class DamageError(AncestralError):
    """A file is damaged. The message names it."""


class NoLikelihoodError(UsageError):
    """The model has no likelihood for these data."""
