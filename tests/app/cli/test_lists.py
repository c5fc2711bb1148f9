"""Options with several values take them with commas, repeated, or one after the other."""

import re

import pytest

from ancestral.app.cli import app
from ancestral.app.cli.lists import COMMAS, REPEATED, gathered


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("compare digits --models vae gan --for 2m", "compare digits --models vae,gan --for 2m"),
        ("compare digits --models vae,gan", "compare digits --models vae,gan"),
        ("compare --models vae digits", "compare --models vae digits"),
        ("compare -q digits --models vae gan", "compare -q digits --models vae gan"),  # digits may be the value of -q
        ("compare digits --condition class text -q", "compare digits --condition class,text -q"),
        ("sample runs/x --seeds 3 7 9 --class 0 1", "sample runs/x --seeds 3,7,9 --class 0,1"),
        ("sample --seeds 3,7 runs/x", "sample --seeds 3,7 runs/x"),
        ("sample runs/x --number -0.3 angle=2", "sample runs/x --number -0.3 --number angle=2"),
        ("sample runs/x --condition a=1 b=2,3", "sample runs/x --condition a=1 --condition b=2,3"),
        ("sample runs/x --interpolate 3 7 --interval .2 5", "sample runs/x --interpolate 3,7 --interval .2,5"),
        ("train digits --condition class text train.batch=3", "train digits --condition class,text train.batch=3"),
        ("train digits --track tensorboard", "train digits --track tensorboard"),
        ("draw between --rows 0,1 runs/x", "draw between --rows 0,1 runs/x"),
        ("draw between runs/x --rows 0 1 --class 2", "draw between runs/x --rows 0,1 --class 2"),
        ("evaluate runs/x --features classifier random", "evaluate runs/x --features classifier,random"),
        ("evaluate runs/x --features", "evaluate runs/x --features"),
        ("report runs/x --features a b", "report runs/x --features a,b"),
        ("", ""),
    ],
)
def test_values_one_after_the_other(given, read):
    assert gathered(given.split()) == read.split()


def test_texts_keep_their_commas():
    assert gathered(["sample", "runs/x", "--prompt", "a 3, red", "a 7"]) == [
        *("sample", "runs/x", "--prompt", "a 3, red", "--prompt", "a 7")
    ]


def test_every_option_with_several_values_is_known():
    """Options that may be repeated, and those whose help has commas, in all commands."""
    for command in ("train", "sample", "info", "evaluate", "compare", "report", "draw", "verify"):
        for argument in app[command].assemble_argument_collection():
            if argument.index is None and str(argument.hint).startswith("tuple"):
                assert set(argument.names) & REPEATED, (command, argument.names)
            if argument.index is None and re.search(r"commas|e\.g\.\s[\d.]+,\d", argument.parameter.help or ""):
                assert set(argument.names) & COMMAS, (command, argument.names)
