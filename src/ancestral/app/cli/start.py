"""The command `ancestral start`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DATA = "Your data: a folder of images, a file (.npy, .npz, .csv, .parquet), or a built-in name"
AIMS = """What do you want?
  1  a model that draws more data like these
  2  to know which kind of model is best for them
  3  to know how good the samples of another program are"""
SAMPLES = "The samples: a folder of images, or an .npy or .npz file"
TIME = "How long may the training of a model take, e.g. 5m or 1h?"
USUAL = "a time that suits the data"


def start() -> int:
    """Answer three questions about your data, and see what follows from the answers.

    Which data? What for: a model of them, a comparison of models, or a measurement of samples of another program? How much
    time, or where are these samples? Then the commands that follow are printed and run. An empty answer takes the value in
    brackets.
    """
    import shlex

    from ancestral.app.cli import app
    from ancestral.app.data import DataSet, load
    from ancestral.app.progress import Reporter
    from ancestral.app.training.budget import Budget
    from ancestral.errors import UsageError, printable

    reporter = Reporter()

    def data(source: str) -> tuple[str, DataSet]:
        with reporter.live() as line:
            return source, load(source, progress=lambda done, total: line.update(f"reading {done:,} of {total:,}"))

    def aim(answer: str) -> str:
        if answer not in ("1", "2", "3"):
            raise UsageError(f"found {answer!r}: answer 1, 2 or 3")
        return answer

    def time(budget: str) -> str:
        if budget != USUAL:
            Budget.parse(budget)
        return budget

    source, real = _ask(DATA, "digits", data)
    spec = real.spec
    of_classes = f" of {len(spec.classes)} classes" if spec.classes else ""
    print(f"  {len(real.train):,} samples of {'x'.join(map(str, spec.shape))}{of_classes}, and {len(real.test):,} held out")
    chosen = _ask(AIMS, "1", aim)
    last = _ask(SAMPLES, "", data)[0] if chosen == "3" else _ask(TIME, USUAL, time)
    for words in commands(source, bool(spec.classes), len(real.test), chosen, last):
        print(f"\n$ {printable(shlex.join(['ancestral', *words]))}", flush=True)
        if code := app(words, exit_on_error=False, print_error=False, result_action="return_value") or 0:
            return code
    return 0


def commands(source: str, classes: bool, held_out: int, aim: str, last: str) -> list[list[str]]:
    """Return the commands, without the word `ancestral`, that follow from the answers.

    Args:
        source: the data.
        classes: whether the data have classes.
        held_out: the number of held-out samples. If they are too few for a comparison, it is with the training samples.
        aim: the number of the answer to the second question.
        last: the last answer: the place of the samples if `aim` is 3, else a time.
    """
    from pathlib import Path

    from ancestral.app.api import free_name, run_name
    from ancestral.app.data.assemble import LEAST

    if aim == "3":
        return [["evaluate", last, "--against", source]]
    home, name = Path("runs"), run_name(source, None)
    options = [*(["--for", last] if last != USUAL else []), *(["--condition", "class"] if classes else [])]
    if aim == "2":
        return [["compare", source, *options, "--out", str(home / free_name(home, f"compare-{name}"))]]
    run = str(home / free_name(home, name))
    against = ["--against", "train"] if held_out < LEAST else []
    return [["train", source, *options, "--out", run], ["sample", run], ["report", run, *against]]


def _ask(question: str, default: str, read: Callable[[str], T]) -> T:
    """Ask until an answer can be read. Raises UsageError if the input ends before."""
    from ancestral.errors import AncestralError, UsageError, printable

    while True:
        print(f"{question} [{default}]" if default else question)
        try:
            answer = input("> ").strip() or default
        except EOFError:
            raise UsageError(
                "the input ended before the questions were answered: answer them in a terminal, or use another command, "
                "such as `ancestral train digits`"
            ) from None
        try:
            return read(answer)
        except AncestralError as error:
            print(f"  {printable(str(error))}")
