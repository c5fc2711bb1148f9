"""A picture of samples says how it was made, well enough to make it again; nothing else can be put into such a record."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ancestral.app.pictures import png
from ancestral.app.sampling import Conditions, EditRequest, Guidance, SampleRequest, Sweep
from ancestral.app.sampling.grid import Axis, SampleGrid
from ancestral.app.sampling.provenance import KEY, Record, from_json, read, to_json
from ancestral.errors import UsageError
from ancestral.solvers import Heun


def picture(path):
    Image.new("L", (4, 4), 77).save(path)
    return path


def again(request, tmp_path):
    return from_json(json.loads(json.dumps(to_json(request))), tmp_path)


@pytest.mark.parametrize(
    "request_",
    [
        SampleRequest(),
        SampleRequest(n=3, seed=2**60, steps=7, solver="heun", spacing="karras", options={"truncation": 0.5}),
        SampleRequest(
            seeds=(5, 3), conditions=Conditions(classes=("1", "2")), guidance=Guidance(scale=2.5, interval=(0.2, 5.0))
        ),
        SampleRequest(conditions=Conditions(prompts=("a \N{SNOWMAN}",), numbers=("0.3",), layout=[["cat", 1, 2, 3, 4]])),
        SampleRequest(conditions=Conditions(sweep=Sweep("number", 0, 1, 4), others={"brightness": 0.7})),
        SampleRequest(guidance=Guidance(autoguide="120", negative={"class": "3"}, scale=1.5, rescale=0.7)),
    ],
)
def test_a_request_is_read_as_it_was_written(request_, tmp_path):
    assert again(request_, tmp_path) == request_


def test_pictures_of_a_request_are_part_of_the_record(tmp_path):
    given, mask = picture(tmp_path / "a.png"), torch.ones(1, 4, 4)
    found = again(SampleRequest(edit=EditRequest(inpaint=given, mask=mask)), tmp_path / "kept")
    assert Path(found.edit.inpaint).read_bytes() == given.read_bytes()
    assert Path(found.edit.inpaint).parent == tmp_path / "kept"
    assert torch.equal(found.edit.mask, mask)


def test_the_device_belongs_to_the_machine_and_objects_cannot_be_written(tmp_path):
    assert again(SampleRequest(device="cuda"), tmp_path).device == "auto"
    assert to_json(SampleRequest(solver=Heun())) is None


def test_a_png_carries_its_record(tmp_path):
    record = Record(SampleRequest(n=2, seed=9), "digits", "abc", {"walk": [1, 2]})
    found = read(png(Image.new("L", (8, 8)), record.chunks()), tmp_path)
    assert found == record


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "does not say how it was made"),
        ("{", "damaged"),
        ('{"request": {}}', "damaged"),
        ('{"version": "0", "run": "r", "weights": "", "request": {"colour": 1}}', "damaged"),
        ('{"version": "0", "run": "r", "weights": "", "request": {"edit": {"vary": "/etc/passwd"}}}', "damaged"),
        ('{"version": "0", "run": "r", "weights": "", "request": {"conditions": {"layout": "/etc/passwd"}}}', "damaged"),
        ('{"version": "0", "run": "r", "weights": "", "request": {"n": 0}}', "at least 1"),
    ],
)
def test_a_record_that_cannot_be_used_is_refused(text, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        read(png(Image.new("L", (8, 8)), {} if text is None else {KEY: text}), tmp_path)
    assert KEY == "ancestral"


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a PNG"):
        read(b"no picture", tmp_path)


def test_a_grid_varies_two_settings_row_by_row():
    base = SampleRequest(n=9, steps=3)
    grid = SampleGrid(base, Axis("guidance", [1, 2]), Axis("class", ["a", "b"]))
    found = [(r.conditions.classes, r.guidance.scale, r.n, r.steps) for r in grid.requests()]
    assert found == [(("a",), 1.0, 1, 3), (("a",), 2.0, 1, 3), (("b",), 1.0, 1, 3), (("b",), 2.0, 1, 3)]
    assert SampleGrid(base, Axis("seed", [4]), Axis("solver", ["heun"])).requests() == [
        replace(base, n=1, seed=4, solver="heun")
    ]


@pytest.mark.parametrize(
    ("across", "down", "said"),
    [
        (("steps", [1]), ("steps", [2]), "both axes"),
        (("steps", list(range(1, 20))), ("seed", list(range(20))), "at most"),
        (("steps", ["many"]), ("seed", [1]), "not a value of steps"),
        (("colour", [1]), ("seed", [1]), "colour"),
        (("steps", []), ("seed", [1]), "no values"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(across, down, said):
    with pytest.raises(UsageError, match=said):
        SampleGrid(SampleRequest(), Axis(*across), Axis(*down)).requests()
