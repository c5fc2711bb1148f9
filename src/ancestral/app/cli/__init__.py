"""The command line. Each command is one file, which is imported only when the command runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from cyclopts import App, CycloptsError, UnusedCliTokensError
from rich.console import Console
from rich.text import Text

from ancestral.app.cli.output import print_everywhere
from ancestral.app.cli.parallel import launched
from ancestral.errors import AncestralError, printable
from ancestral.version import __version__

INTRODUCTION = """Train, sample and compare generative models of your own data.

Try:

- `ancestral start`: answer at most three questions about your data; the commands that follow from them are shown and run
- `ancestral train digits`: train a model of handwritten digits (two minutes on a laptop)
- `ancestral sample runs/digits -n 64`: draw 64 new digits and write them as a picture
- `ancestral tune runs/digits`: fit the sampler to the model, for good samples in few steps
- `ancestral info runs/digits`: show what the run is and how its training went
- `ancestral report runs/digits`: write a page that says how good the samples are
- `ancestral compare digits`: find the family that is best on these data
- `ancestral studio`: look at runs, draw samples and see the theory in the browser
- `ancestral train path/to/images --for 1h --condition class`: train on your own folder, whose sub-folders are the classes

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

app = App(name="ancestral", help=INTRODUCTION, help_format="markdown", version=__version__, version_flags=["--version"])
for name, summary in (
    ("start", "Answer three questions about your data, and see what follows."),
    ("train", "Train a model of your data, or continue a run."),
    ("sample", "Draw new samples from a trained model."),
    ("distill", "Train a model that draws a run's samples in one to four evaluations."),
    ("info", "Show what a run is and how its training went."),
    ("tune", "Fit the sampler to a run, for good samples in few steps."),
    ("evaluate", "Score samples beside real data."),
    ("compare", "Compare the families on your data."),
    ("report", "Write a run's report as one page."),
    ("export", "Write a model for ONNX Runtime, OpenVINO, torch or diffusers."),
    ("draw", "Draw the theory: scores, and the paths into noise and back."),
    ("push", "Write a run to the Hugging Face hub, with a model card."),
    ("studio", "Open the studio: runs, samples and the theory in the browser."),
    ("serve", "Serve trained models over HTTP, for programs."),
    ("verify", "Compute every claim of the theory, both sides of each equation."),
):
    app.command(f"ancestral.app.cli.{name}:{name}", name=name, help=summary)


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
        return app(arguments, exit_on_error=False, print_error=False, result_action="return_value") or 0
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
    return code


def _tell(message: str, code: int, arguments: list[str]) -> None:
    if "--json" in arguments:
        import json

        print(json.dumps({"error": message, "exit_code": code}))
    else:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text.assemble(("error:", "red"), " ", message))
