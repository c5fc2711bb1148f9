"""Messages give advice that works: the options and settings that they name exist in the commands that print them."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from ancestral.app.cli import app
from ancestral.app.recipes import FAMILIES
from ancestral.app.recipes.recipe import DataRecipe, TrainRecipe

SOURCE = Path(__file__).parents[1] / "src" / "ancestral"
COMMANDS = (
    *("train", "sample", "distill", "export", "tune", "info", "evaluate", "compare"),
    *("report", "draw", "push", "studio", "serve", "start", "verify"),
)

# The commands that print the messages of a module. A file of a command is printed by that command only.
PRINTED_BY = {
    "app/api.py": "train",
    "app/compare.py": "compare",
    "app/cli/__init__.py": "",  # the texts name their command
    "app/cli/conditions.py": "sample draw",
    "app/cli/invert.py": "sample",
    "app/cli/latent.py": "sample",
    "app/cli/likelihoods.py": "evaluate",
    "app/cli/options.py": "sample compare",
    "app/cli/parallel.py": "train compare",
    "app/data/decode.py": "train compare",
    "app/evaluate.py": "evaluate report",
    "app/training/stage.py": "train compare",
    "app/evaluation/extractors/inception.py": "evaluate report compare",
    "app/evaluation/ranges.py": "evaluate",
    "app/evaluation/reference.py": "evaluate report compare",
    "app/launch.py": "train compare",
    "app/recipes/conditions.py": "train compare",
    "app/recipes/latent.py": "train",
    "app/training/finetuning.py": "train",
    "app/training/loop.py": "train compare",
    "app/training/pretrained.py": "train",
    "app/training/run.py": "train compare",
    "app/web/server.py": "studio serve",
    "app/web/service/state.py": "serve",
    "runner.py": "export",  # its own --out
}
OTHER_PROGRAMS = re.compile(r"\b(pip|npm|mkdir|python) .*|--force-reinstall")
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z]\b)")
NAMED = re.compile(r"`?ancestral ([a-z]+)([^`\n]*)|\((train(?:, compare)?): ([^)]*)\)|`(--[^`]*)` of (evaluate and report)")


def literals(file):
    """(line, text) of the texts of a file; {} stands for an inserted value. Of docstrings, those that are help count."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    owners = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    shown = ({file.stem} & set(COMMANDS)) | {"Asked"} if file.parent.name == "cli" else set()
    silent = [node.body[0] for node in owners if getattr(node, "name", None) not in shown]
    docstrings = {id(first.value) for first in silent if isinstance(first, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner | docstrings:
            yield node.lineno, node.value


def options(command):
    """The options of a command, as its parser knows them."""
    return {name for argument in app[command].assemble_argument_collection() for name in argument.names} | {"-q"}


def advised(text):
    """(command or None, option) of every option that a text names. None: the command that prints the text."""
    text = OTHER_PROGRAMS.sub("", text)
    for found in NAMED.finditer(text):
        command, words, group, others, option, both = found.groups()
        names = [command] if command else re.findall(r"\w+", group) if group else both.split(" and ") if both else []
        for name in names:
            yield from ((name, word) for word in OPTION.findall(words or others or option or ""))
    yield from ((None, word) for word in OPTION.findall(NAMED.sub("", text)))


FILES = sorted(file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py"))


def wrong(name, texts):
    """What the texts of a module advise and no command takes."""
    stem = name.removeprefix("app/cli/").removesuffix(".py")
    known = stem if stem in COMMANDS else PRINTED_BY.get(name)
    for line, text in texts:
        if " " not in text.strip():  # the name of an option, which is no message
            continue
        for command, option in advised(text):
            if command is None and known is None:
                yield f"{name}:{line}: say in PRINTED_BY which commands print {text!r}"
            for printing in [command] if command else (known or "").split():
                if printing not in COMMANDS or option not in options(printing):
                    yield f"{name}:{line}: `ancestral {printing}` has no {option}: {text!r}"


def test_advice_names_options_of_the_command_that_prints_it():
    assert not [line for name in FILES for line in wrong(name, literals(SOURCE / name))]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("app/cli/report.py", "give a smaller --size"),
        ("app/evaluate.py", "lower the number with --batch"),
        ("app/training/run.py", "run `ancestral train SOURCE --colour red`"),
        ("app/training/budget.py", "give more time with --for"),
    ],
)
def test_advice_that_a_command_does_not_take_is_found(name, text):
    assert len(list(wrong(name, [(1, text)]))) >= 1


def settings(section):
    """All settings of a section, also those of the sections in it, as section.name."""
    for name, field in section.model_fields.items():
        yield name
        pending = [field.annotation]
        while pending:
            kind = pending.pop()
            pending += get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from (f"{name}.{inner}" for inner in settings(kind))


def test_advice_names_settings_that_exist():
    known = {f"model.{name}" for family in FAMILIES.values() for name in settings(family)}
    known |= {f"data.{name}" for name in settings(DataRecipe)} | {f"train.{name}" for name in settings(TrainRecipe)}
    setting = re.compile(r"(?<![\w./`\[-])((?:model|data|train)\.[a-z_]+(?:\.[a-z_]+)*)(?=\b(?![\w(/]))")
    found = [
        (f"{name}:{line}", word)
        for name in FILES
        for line, text in literals(SOURCE / name)
        if " " in text.strip()
        for word in setting.findall(text)
    ]
    assert len(found) > 30
    assert not [place for place in found if place[1] not in known]
