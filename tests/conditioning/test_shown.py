"""What is asked of a sample, as a person sees it beside the sample."""

import numpy as np
import pytest
import torch
from PIL import Image

import ancestral as an
from ancestral.app.api import train
from ancestral.app.cli.conditions import Asked
from ancestral.app.cli.sample import sample
from ancestral.app.data.scenes import DIGITS, scenes
from ancestral.app.pictures import asked
from ancestral.conditioning import ClassCondition, Conditioner, InpaintCondition, LayoutCondition, MapCondition, TextCondition
from ancestral.conditioning.render import Rendering, colour
from ancestral.errors import UsageError


@pytest.fixture(scope="module")
def few():
    return scenes(20, 12)


def test_conditions_of_held_out_scenes_are_rendered(few):
    """Captions word by word, boxes in their pixels, maps by a colour for each class."""
    conditioner = Conditioner(
        {
            "text": TextCondition(8),
            "layout": LayoutCondition(DIGITS, 3, (32, 32), (32, 32), 8),
            "map": MapCondition(DIGITS, (32, 32), (32, 32), 8),
        }
    )
    conditioner.fit(few.train.columns)
    for i, found in enumerate(few.encoded(conditioner).render(torch.arange(12))):
        assert found.words == few.test.captions[i]
        boxes = [[number, *(round(32 * share) for share in place)] for number, _, *place in found.boxes]
        assert boxes == few.test.boxes[i].tolist()
        assert [name for _, name, *_ in found.boxes] == [DIGITS[row[0]] for row in boxes]
        (picture,) = found.pictures
        for value in few.test.maps[i].unique().tolist():
            expected = torch.tensor(colour(value - 1) if value else (0, 0, 0)) / 255
            assert torch.equal(picture[:, few.test.maps[i] == value].T.unique(dim=0)[0], expected)
    assert few.render(torch.arange(3)) == []


def test_a_class_is_shown_by_its_name_and_a_hole_as_a_hole():
    kinds = {"class": ClassCondition(["cat", "dog"], 4), "inpaint": InpaintCondition(3, (4, 4), (4, 4), True)}
    image, known = torch.rand(3, 4, 4), torch.ones(4, 4)
    known[:2] = 0
    conditioner = Conditioner(kinds)
    (found,) = conditioner.render(conditioner.parse({"class": "dog", "inpaint": (image, known)}, 1))
    assert found.words == "dog"
    torch.testing.assert_close(found.pictures[0], image * known)


def test_boxes_are_drawn_where_they_are_and_pictures_stand_to_the_left():
    """A grey sample of 32 x 32 is enlarged 3 times; its box of class 2, left 8, top 4, 16 x 20 pixels, is outlined."""
    image = np.full((1, 32, 32, 1), 100, np.uint8)
    of_one = Rendering(boxes=((2, "", 8 / 32, 4 / 32, 16 / 32, 20 / 32),), pictures=(torch.zeros(1, 32, 32),))
    sheet = np.asarray(asked(image, [of_one]))
    assert sheet.shape == (96 + 8, 2 * 97 + 8, 3)
    left, right = sheet[4:100, 4:100], sheet[4:100, 101:197]
    assert not left.any()
    outline = (right == colour(2)).all(-1)
    y, x = np.nonzero(outline)
    assert (x.min(), x.max(), y.min(), y.max()) == (24, 24 + 47, 12, 12 + 59)
    assert outline.sum() == 2 * (48 + 60) - 4
    assert (right[~outline] == 100).all()


def test_words_are_below_their_sample_only():
    images = np.full((2, 8, 8, 1), 100, np.uint8)
    sheet = np.asarray(asked(images, [Rendering(words="a tiger left of a slice of pizza"), Rendering()], columns=2))
    beneath = sheet[100:, :, 0] < 128
    assert beneath[:, 4:100].any()
    assert not beneath[:, 108:].any()
    assert sheet.shape[0] > 96 + 8 + 12  # two lines


def test_every_condition_can_be_written_on_the_command_line(few, tmp_path):
    """A prompt, what it is not, boxes and a map, the map larger than the model; each changes the sample."""
    run, small = tmp_path / "run", ("model.channels=[8, 16]", "train.batch=8", "train.previews=0", "train.lr=1")
    train(few, budget="3it", out=run, condition=("text", "layout", "map"), settings=small, quiet=True)
    (tmp_path / "boxes.json").write_text('[["3", 2, 2, 12, 12], ["7", 18, 18, 10, 10]]')
    numbers = np.zeros((64, 64), np.uint8)
    numbers[8:40, 8:40] = 4
    Image.fromarray(numbers).save(tmp_path / "map.png")

    def drawn(**options):
        sample(run, n=1, steps=2, out=tmp_path / "x.npz", quiet=True, **options)
        return np.load(tmp_path / "x.npz")["x"]

    plain = drawn()
    prompt = drawn(asked=Asked(prompt=("a 3 left of a 7",)))
    assert (prompt != plain).any()
    assert (drawn(asked=Asked(prompt=("a 3 left of a 7",)), negative="a 5") != prompt).any()
    assert (drawn(asked=Asked(prompt=("a 3 left of a 7",)), rescale=0.7, guidance=5.0) != prompt).any()
    assert (drawn(asked=Asked(layout=tmp_path / "boxes.json")) != plain).any()
    asked = Asked(map_=tmp_path / "map.png")
    found = asked.for_model(an.load(run), few.spec)["map"]
    assert torch.equal(found, torch.from_numpy(numbers[::2, ::2]))
    assert (drawn(asked=asked) != plain).any()
    Image.fromarray(np.stack([numbers] * 3, -1)).save(tmp_path / "colours.png")
    with pytest.raises(UsageError, match=r"cannot read the map .*: its pixels are colours"):
        drawn(asked=Asked(map_=tmp_path / "colours.png"))


@pytest.mark.slow
def test_previews_and_samples_show_their_conditions(tmp_path):
    small = ("model.channels=[8, 16]", "model.blocks=1", "train.batch=8", "train.previews=1")
    train("digits", budget="2it", out=tmp_path, condition="class", settings=small, quiet=True)
    (preview,) = sorted((tmp_path / "samples").glob("*.png"))[-1:]
    with Image.open(preview) as picture:
        assert picture.size == (4 * (97 + 4) + 4, 4 * (96 + 12 + 4) + 4)
        assert (np.asarray(picture)[100:112, 4:100] < 128).any()  # the name of the first class
    words = {"n": 4, "steps": 1, "asked": Asked(class_="3,7"), "quiet": True}
    sample(tmp_path, **words, legend=True, out=tmp_path / "told.png")
    sample(tmp_path, **words, out=tmp_path / "x.npz")
    images = (np.load(tmp_path / "x.npz")["x"] * 255.0 / 16).round().astype(np.uint8).transpose(0, 2, 3, 1)
    expected = np.asarray(asked(images, [Rendering("3"), Rendering("7")] * 2, columns=2), np.int64)
    with Image.open(tmp_path / "told.png") as picture:
        assert np.abs(np.asarray(picture) - expected).max() <= 8  # half of the distance of levels, to which arrays are rounded
