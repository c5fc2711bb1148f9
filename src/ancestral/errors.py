"""Errors that a person can act on. Each carries one sentence: what is wrong, where, and what to do."""


class AncestralError(Exception):
    """The work cannot go on. A command ends with exit code 1."""

    exit_code = 1


class UsageError(AncestralError, ValueError):
    """The request itself is wrong: an unknown name, a bad option. A command ends with exit code 2."""

    exit_code = 2


class NoLikelihoodError(UsageError):
    """A likelihood was asked for of data for which the model's loss is none."""
