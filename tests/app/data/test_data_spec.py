"""`DataSpec` describes itself and survives JSON."""

import json

import pytest

from ancestral.app.data import DataError, DataSpec

IMAGE = DataSpec("set", (3, 4, 5), "uint8", (0.0, 1.0), 256, (0.1, 0.2, 0.3), (1.0, 0.5, 0.25), ("a", "b"), 7, "00ff")
POINTS = DataSpec("points", (2,), "real", (-1.5, 2.5), None, (0.0, 0.0), (1.0, 1.0), (), 9, "ff00")


@pytest.mark.parametrize("spec", [IMAGE, POINTS])
def test_json_gives_the_same_spec_back(spec):
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_shape_tells_images_and_dimensions():
    assert (IMAGE.is_image, IMAGE.dims) == (True, 60)
    assert (POINTS.is_image, POINTS.dims) == (False, 2)


def test_missing_and_unknown_fields_are_named():
    values = POINTS.to_json()
    del values["levels"]
    with pytest.raises(
        DataError, match=r"^the description of the data is damaged or of another version: .*fields extra, levels$"
    ):
        DataSpec.from_json(values | {"extra": 1})
