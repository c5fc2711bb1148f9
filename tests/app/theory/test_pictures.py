"""What is drawn of a claim, by the drawing's own axes and by `ancestral verify --draw`."""

import json

import pytest
import torch
from PIL import Image

from ancestral.app.cli import main
from ancestral.app.theory import CLAIMS, Along, Clouds, Verdict
from ancestral.app.theory.claims import at_most, equal, table
from ancestral.app.theory.pictures import draw

T = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


def run(*words):
    with pytest.raises(SystemExit) as exit_:
        main(["verify", *words])
    return exit_.value.code


@pytest.fixture
def axes(monkeypatch):
    """The axes of whatever is drawn."""
    found = []
    monkeypatch.setattr("ancestral.app.theory.pictures.render", lambda figure: found.extend(figure.axes))
    return found


def verdict(*sides, clouds=()):
    return Verdict(CLAIMS["gan.hinge"], sides, clouds, 0.0)


def test_sides_of_equal_axes_share_a_panel(axes):
    a, b = Along("t", T, "mean"), Along("t", T, "variance", "xy")
    draw(
        verdict(
            equal("one", T, T, along=a),
            equal("number", 1.0, 1.0),
            at_most("two", T, 2 * T, along=a),
            equal("three", T, T, along=b),
        )
    )
    shown = [x for x in axes if x.axison]
    assert [(x.get_xlabel(), x.get_ylabel()) for x in shown] == [("t", "mean"), ("t", "variance")]
    assert [x.get_yscale() for x in shown] == ["linear", "log"]
    assert [line.get_text() for line in shown[0].get_legend().get_texts()] == ["one", "two"]


def test_what_is_drawn_is_both_sides(axes):
    """Right sides are lines, broken for bounds; the left one, which both share, is drawn once, with two standard errors."""
    along = Along("t", T, "mean")
    draw(verdict(equal("one", T, T**2, 0.5, along=along), at_most("two", T, T**3, along=along)))
    lines = {line.get_label(): line for line in axes[0].lines}
    assert lines["one"].get_ydata().tolist() == [1.0, 4.0, 9.0]
    assert lines["two"].get_ydata().tolist() == [1.0, 8.0, 27.0]
    assert (lines["one"].get_linestyle(), lines["two"].get_linestyle()) == ("-", "--")
    (bars,) = axes[0].containers
    assert bars[0].get_ydata().tolist() == T.tolist()
    assert bars[2][0].get_segments()[0][:, 1].tolist() == [0.0, 2.0]


def test_clouds_are_drawn_and_judged_by_nobody(axes):
    v = verdict(equal("number", 1.0, 1.0), clouds=(Clouds("plain", {"data": torch.zeros(5, 2), "samples": torch.ones(7, 2)}),))
    assert v.holds
    draw(v)
    assert [len(c.get_offsets()) for c in axes[0].collections] == [5, 7]


def test_nothing_is_drawn_of_numbers():
    assert draw(verdict(equal("number", 1.0, 1.0))) is None


def test_a_constant_side_is_as_long_as_the_axis():
    s = at_most("floor", 0.0, 1.0, along=Along("t", T, "mean"))
    assert len(s.left) == len(s.right) == len(s.std_err) == 3


def test_a_table_has_columns():
    a, b = table((i, torch.tensor([[i * i]])) for i in (1, 2, 3))
    assert (a.tolist(), b.tolist()) == ([1.0, 2.0, 3.0], [1.0, 4.0, 9.0])


def test_the_command_writes_pictures(tmp_path, capsys):
    assert run("gan.hinge", "gan.cross-entropy", "--draw", str(tmp_path / "new"), "--json") == 0
    told = {c["name"]: c["picture"] for c in json.loads(capsys.readouterr().out)["claims"]}
    assert told == {"gan.hinge": str(tmp_path / "new" / "gan.hinge.png"), "gan.cross-entropy": None}
    with Image.open(told["gan.hinge"]) as picture:
        assert picture.width > 300
    assert run("gan.hinge", "--explain", "--draw", str(tmp_path)) == 2
    assert "--explain computes nothing" in capsys.readouterr().err
