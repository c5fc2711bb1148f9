"""A command of `ancestral` that runs in this process, and how it ended."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from ancestral.app.cli import main as ancestral


@dataclass(frozen=True)
class End:
    """How a command ended. problem: what must not happen, e.g. a traceback."""

    code: int
    said: str
    problem: str = ""

    @property
    def sound(self) -> bool:
        return not self.code and not self.problem


def call(*words: object) -> End:
    """Run a command of `ancestral` in this process."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            ancestral([str(word) for word in words])
    except SystemExit as end:
        said, code = out.getvalue() + err.getvalue(), int(end.code or 0)
        sentences = [line for line in said.splitlines() if line.startswith(("error:", '{"error":'))]
        sound = code in (0, 1, 2) and len(sentences) == bool(code)
        return End(code, said.strip(), "" if sound else f"exit code {code} and {len(sentences)} sentences")
    except BaseException as error:  # what a user would see as a traceback
        return End(1, "", f"{type(error).__name__}: {error}".splitlines()[0])
    raise AssertionError("a command ends by SystemExit")
