"""The command `ancestral start`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")
Aim = Literal["1", "2", "3"]
AIMS = """What do you want?
  1  a model that draws more data like these
  2  to know which kind of model is best for them
  3  to know how good the samples of another program are"""


def start() -> int:
    """Answer at most three questions, and see the commands that follow from the answers while they run.

    The questions: which data, what for, and how much time, or where the samples to score are. An empty answer takes the value
    in brackets.
    """
    import shlex

    from rich.console import Console

    from ancestral.app.cli import app
    from ancestral.app.data import load
    from ancestral.app.training.budget import Budget

    console = Console(highlight=False, soft_wrap=True)

    def data_of(answer: str) -> tuple[str, bool]:
        data = load(answer)
        shape = "x".join(map(str, data.spec.shape))
        classes = len(data.spec.classes)
        of_classes = f" of {classes} classes" if classes else ""
        console.print(f"  {len(data.train):,} samples of {shape}{of_classes}, and {len(data.test):,} held out", markup=False)
        return answer, classes > 0

    question = "Your data: a folder of images, a file (.npy, .npz, .csv, .parquet), or a built-in name"
    source, has_classes = _ask(console, question, "digits", data_of)
    aim: Aim = _ask(console, AIMS, "1", _aim)
    if aim == "3":
        answer = _ask(console, "The samples: a folder of images, or an .npy or .npz file", None, _readable)
    else:
        each = "the training" if aim == "1" else "the training of each kind of model"
        answer = _ask(console, f"How long may {each} take, e.g. 5m or 1h?", "a time that suits the data", _time(Budget.parse))
    for words in commands(source, has_classes, aim, answer):
        console.print(f"\n$ {shlex.join(['ancestral', *words])}", style="bold", markup=False)
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value") or 0
        if code:
            return code
    return 0


def commands(source: str, has_classes: bool, aim: Aim, answer: str) -> list[list[str]]:
    """Return the commands, without the word `ancestral`, that follow from the answers.

    Args:
        source: the data.
        has_classes: whether the data have classes.
        aim: the number of the answer to the second question.
        answer: a time or "" if aim is 1 or 2, and the place of the samples if it is 3.
    """
    from pathlib import Path

    from ancestral.app.api import run_name

    if aim == "3":
        return [["evaluate", answer, "--against", source]]
    options = [*(["--for", answer] if answer else []), *(["--condition", "class"] if has_classes else [])]
    if aim == "2":
        return [["compare", source, *options]]
    run = str(Path("runs") / run_name(source, None))
    return [["train", source, *options], ["sample", run], ["report", run]]


def _ask(console: object, question: str, default: str | None, read: Callable[[str], T]) -> T:
    """Ask until an answer can be read. Raises UsageError if the input ends before."""
    from rich.console import Console
    from rich.text import Text

    from ancestral.errors import AncestralError, UsageError, printable

    assert isinstance(console, Console)
    while True:
        console.print(Text(f"{question} [{default}]" if default else question))
        try:
            answer = console.input("> ").strip() or default or ""
        except EOFError:
            raise UsageError(
                "the input ended before the questions were answered: answer them in a terminal, or use another command, "
                "such as `ancestral train digits`"
            ) from None
        try:
            return read(answer)
        except AncestralError as error:
            console.print(Text(f"  {printable(str(error))}"))


def _aim(answer: str) -> Aim:
    from ancestral.errors import UsageError

    for aim in ("1", "2", "3"):
        if answer == aim:
            return aim
    raise UsageError(f"found {answer!r}: answer 1, 2 or 3")


def _readable(answer: str) -> str:
    from ancestral.app.data import load

    load(answer)
    return answer


def _time(parse: Callable[[str], object]) -> Callable[[str], str]:
    def read(answer: str) -> str:
        if answer.startswith("a time"):
            return ""
        parse(answer)
        return answer

    return read
