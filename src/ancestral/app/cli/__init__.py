"""The command line. Each command is one file, which is imported only when the command runs."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError
from rich.console import Console
from rich.text import Text

from ancestral.app.cli.output import print_everywhere
from ancestral.app.cli.parallel import launched
from ancestral.errors import AncestralError, printable
from ancestral.version import __version__

INTRODUCTION = """Train, sample and compare generative models of your own data.

New here? `ancestral start` asks three questions about your data, and runs the commands that follow from your answers. Or try:

- `ancestral train digits`: train a model of handwritten digits (two minutes on a laptop)
- `ancestral sample runs/digits -n 64`: draw 64 new digits and write them as a picture
- `ancestral report runs/digits`: write a page that says how good the samples are
- `ancestral train path/to/images --for 1h --condition class`: train on your own pictures, whose sub-folders are the classes

`ancestral COMMAND --help` explains each command.
"""

SMALLER = {
    "train": "lower train.batch or raise train.accumulate",
    "distill": "lower train.batch or raise train.accumulate",
    "sample": "lower --batch or -n",
    "compare": "lower -n or --size",
    "evaluate": "lower -n",
    "report": "lower -n",
}

COMMANDS = {  # name: the first line of its help, which is that of its docstring
    "start": "Answer three questions about your data, and see what follows from the answers.",
    "train": "Train a model of your data, or continue a training.",
    "sample": "Draw new samples from a trained model.",
    "info": "Show what a run is and how its training went.",
    "tune": "Find sampler settings with which a model draws good samples in few steps.",
    "distill": "Train a copy of a model that draws samples in one to four evaluations of its network.",
    "report": "Write a page that shows the samples of a run and says how good they are.",
    "evaluate": "Measure how good samples are, beside real data.",
    "compare": "Find out which kind of model is best for your data.",
    "studio": "Work in the browser: train, look at runs, draw samples, see the theory.",
    "serve": "Let other programs draw samples of your models over HTTP.",
    "export": "Write a model for ONNX Runtime, OpenVINO, torch, diffusers or a web page.",
    "push": "Publish a run on the Hugging Face hub, with a model card.",
    "draw": "Draw how noise turns into data and back, and the score of points in the plane.",
    "verify": "Compute both sides of every equation of the theory, and check that they agree.",
}


def _default(value: object) -> str | None:
    """Return the words for a default in the help. None: it needs none, as that of a flag, or its help says it."""
    return None if value is None or value is False or value == () else str(value)


app = App(
    name="ancestral",
    help=INTRODUCTION,
    help_format="markdown",
    version=__version__,
    version_flags=["--version"],
    group_arguments=Group("Arguments", sort_key=-1),
    group_parameters=Group("Options", sort_key=0),
    default_parameter=Parameter(negative=(), show_default=_default),
)
for place, (name, summary) in enumerate(COMMANDS.items()):
    app.command(f"ancestral.app.cli.{name}:{name}", name=name, help=summary, sort_key=place)


def _explain(name: str) -> None:
    """Let the help of a command show its whole docstring, and its usage the names of its arguments.

    The list of all commands has only the first lines, so that it imports no command.
    """
    command = app[name]
    function: Any = command.default_command
    command.help = inspect.cleandoc(function.__doc__ or "")
    words: list[str] = []
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        word = parameter.name.upper()
        if parameter.kind is parameter.VAR_POSITIONAL:
            words.append(f"[{word} ...]")
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            words.append(word if parameter.default is parameter.empty else f"[{word}]")
    words += ["[OPTIONS]"] if any(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters) else []
    command.usage = " ".join(["Usage: ancestral", name, *words])


GRACE = 3  # seconds
PARALLEL = ("train", "distill", "compare")  # commands whose processes work together; evaluate and report share files


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 for success, 1 for a failure, 2 for a wrong request, 128 + n if signal n stopped the work."""
    arguments = sys.argv[1:] if arguments is None else arguments
    print_everywhere((sys.stdout, sys.stderr))
    if not (launched() and arguments and arguments[0] in PARALLEL):
        sys.exit(_run(arguments))
    from ancestral.app.processes import joined

    signal.signal(signal.SIGTERM, _end_soon)
    with joined() as group:
        if not group.main:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the process ends
        code = _run(arguments, group.says)
        if code:
            _leave(code)  # without the others, which may be gone
    _leave(0)


def _end_soon(number: int, frame: object) -> None:
    """End in some seconds, in which a process can say why it failed: a launcher ends all processes once one has ended."""
    timer = threading.Timer(GRACE, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()


def _leave(code: int) -> NoReturn:
    """End at once. The threads of torch.distributed abort a process that ends while they run."""
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)


def _run(arguments: list[str], says: Callable[[str], bool] = lambda message: True) -> int:
    """Run a command and return its exit code. says: whether this process is the one that tells a message."""
    try:
        if arguments and arguments[0] in COMMANDS:
            _explain(arguments[0])
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value") or 0
        sys.stdout.flush()  # may fail, as on a full disk
        return code
    except UnusedCliTokensError as error:
        words = " ".join(error.unused_tokens or [])
        message, code = f"unexpected {words}: an option with several values takes them with commas, as in --seeds 3,7", 2
    except CycloptsError as error:
        message, code = " ".join(str(error).split()), 2
    except AncestralError as error:
        message, code = str(error), error.exit_code
    except (MemoryError, RuntimeError) as error:
        from ancestral.runtime import memory_is_full

        if not memory_is_full(error):
            raise
        remedy = SMALLER.get(arguments[0] if arguments else "", "close other programs")
        message, code = f"the memory is full: {remedy}", 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message, code = f"{where}{(error.strerror or str(error)).lower()}; fix this and run the command again", 1
    if says(message):
        _tell(printable(message), code, arguments)
    try:
        sys.stdout.flush()
    except OSError:  # what cannot be written would be tried again at the end of the process
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _tell(message: str, code: int, arguments: list[str]) -> None:
    if "--json" in arguments:
        import json

        with suppress(OSError):  # a full disk, of which standard error is told
            print(json.dumps({"error": message, "exit_code": code}), flush=True)
            return
    with suppress(OSError):
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text.assemble(("error:", "red"), " ", message))
