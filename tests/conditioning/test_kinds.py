"""Closed-form properties of the encoders, and what they say to bad input."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from ancestral.conditioning import (
    ClassCondition,
    Conditioner,
    ImageCondition,
    InpaintCondition,
    LayoutCondition,
    MapCondition,
    SentenceCondition,
    SketchCondition,
    TextCondition,
    TextLayoutCondition,
    UpscaleCondition,
)
from ancestral.conditioning.images import edges, hidden
from ancestral.conditioning.vocabulary import PAD, START
from ancestral.errors import UsageError
from ancestral.noise import SampleNoise, StreamNoise

CAPTIONS = ("a 3 left of a 7", "an 8 above a 2", "a 1 below an 8 and right of a 4", None)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def text() -> TextCondition:
    made = TextCondition(16)
    made.fit(CAPTIONS)
    return made


class Letters:
    """A frozen encoder for tests: a token a word, whose numbers are made of its letters alone."""

    width = 5

    def count(self, text: str) -> int:
        return len(text.split())

    def __call__(self, texts, length: int) -> torch.Tensor:
        out = torch.zeros(len(texts), length, self.width)
        for i, text in enumerate(texts):
            for j, word in enumerate(text.split()[:length]):
                out[i, j] = torch.cos(sum(map(ord, word)) * torch.arange(1, 1 + self.width))
        return out


def sentence() -> SentenceCondition:
    made = SentenceCondition(Letters(), 16)
    made.fit(CAPTIONS)
    return made


def layout(**changes) -> LayoutCondition:
    return LayoutCondition("0123456789", **({"most": 3, "canvas": (32, 32), "space": (32, 32), "width": 16} | changes))


def text_layout() -> TextLayoutCondition:
    made = TextLayoutCondition(("a red house", "a blue dog", "7"), 3, (32, 32), (32, 32), 16)
    made.fit([torch.tensor([[i, 0, 0, 1, 1] for i in range(3)])])
    return made


def maps() -> MapCondition:
    made = MapCondition("abc", (8, 8), (8, 8), 16)
    torch.nn.init.normal_(made.null)
    return made


KINDS = {
    "class": (lambda: ClassCondition("abc", 16), "b"),
    "text": (text, "a 3"),
    "sentence": (sentence, "a 3"),
    "layout": (layout, [["7", 2, 3, 10, 12]]),
    "text_layout": (text_layout, [["a red dog", 2, 3, 10, 12]]),
    "map": (maps, torch.ones(8, 8, dtype=torch.uint8)),
    "image": (lambda: ImageCondition((3, 8, 8), (8, 8), (8, 8), True), torch.rand(3, 8, 8)),
    "upscale": (lambda: UpscaleCondition(1, (8, 8), (8, 8), True, 2), torch.rand(1, 4, 4)),
    "inpaint": (lambda: InpaintCondition(1, (8, 8), (8, 8), True), (torch.rand(1, 8, 8), torch.ones(8, 8))),
    "sketch": (lambda: SketchCondition((8, 8), (8, 8)), torch.rand(1, 8, 8)),
}


def same(a, b, rows=slice(None)):
    for name in ("vector", "tokens", "mask", "channels"):
        x, y = getattr(a, name), getattr(b, name)
        if (x is None) != (y is None) or (x is not None and not torch.allclose(x[rows].float(), y[rows].float(), atol=1e-6)):
            return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_no_condition_and_dropped_rows_are_the_null(kind):
    make, value = KINDS[kind]
    condition, n = make().eval(), 4
    raw = condition.parse(value, n)
    assert torch.equal(condition.parse(raw, n), raw)
    drop = torch.tensor([True, False, True, False])
    null, asked, mixed = condition(None, n), condition(raw, n), condition(raw, n, drop)
    assert same(mixed, null, drop)
    assert same(mixed, asked, ~drop)
    assert not same(asked, null)
    widths = condition.widths
    for name in ("vector", "tokens", "channels"):
        assert (0 if getattr(null, name) is None else getattr(null, name).shape[1 + (name == "tokens")]) == getattr(
            widths, name
        )
    with pytest.raises(UsageError, match=r"given for 4 samples"):
        condition.parse([value] * 3 if kind not in ("map", "image", "upscale", "inpaint", "sketch") else _several(value, 3), n)


def _several(value, n):
    if isinstance(value, tuple):
        return tuple(part.expand(n, *part.shape) for part in value)
    return value.expand(n, *value.shape)


def test_a_label_is_no_name():
    """Folders "0" to "11" sort as 0, 1, 10, 11, 2: names are read once, and what they became is a number from then on."""
    names = sorted(str(i) for i in range(12))
    kind = ClassCondition(names, 4)
    labels = torch.arange(12)
    assert torch.equal(kind.parse(labels, 12), labels)
    for name in names:
        once = kind.parse(name, 1)
        assert once.tolist() == [names.index(name)] == kind.parse(once, 1).tolist()
    assert kind.parse(np.int64(3), 2).tolist() == [names.index("3")] * 2
    assert kind.parse(torch.tensor(3), 2).tolist() == [3, 3]
    with pytest.raises(UsageError, match="labels must be numbers from 0 to 11"):
        kind.parse(torch.tensor([12]), 1)
    with pytest.raises(UsageError, match="2 classes given for 3 samples"):
        kind.parse(torch.tensor([1, 2]), 3)


def test_each_kind_is_dropped_at_its_rate_and_on_its_own():
    """A binomial test of each rate, and of both at once, which is the product where they are independent."""
    n, rate = 20_000, 0.2
    kinds = {"class": ClassCondition("ab", 4), "map": MapCondition("abc", (2, 2), (2, 2), 4)}
    conditioner = Conditioner(kinds, rate)
    seen = {}
    for name, kind in kinds.items():
        kind.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[2]))
    raw = {"class": torch.zeros(n, dtype=torch.long), "map": torch.zeros(n, 2, 2, dtype=torch.uint8)}
    conditioner(raw, n, StreamNoise(n, 0, 0))
    assert binomtest(int(seen["class"].sum()), n, rate).pvalue > 1e-3
    assert binomtest(int(seen["map"].sum()), n, rate).pvalue > 1e-3
    assert binomtest(int((seen["class"] & seen["map"]).sum()), n, rate**2).pvalue > 1e-3
    conditioner(raw, n)
    assert seen["class"] is None


# text


def test_text_goes_to_numbers_and_back():
    vocabulary = text().vocabulary
    for caption in filter(None, CAPTIONS):
        numbers = vocabulary.encode(caption.upper())
        assert numbers[0] == START
        assert vocabulary.decode(numbers) == caption


def test_the_vocabulary_survives_saving():
    first, second = text().eval(), TextCondition(16).eval()
    second.load_state_dict({name: t.clone() for name, t in first.state_dict().items()})
    assert second.vocabulary.dump() == first.vocabulary.dump()
    raw = first.column(CAPTIONS)
    assert torch.equal(second.column(CAPTIONS), raw)
    assert same(first(raw, 4), second(raw, 4))


def test_the_same_captions_give_the_same_vocabulary():
    again = TextCondition(16)
    again.fit(CAPTIONS[::-1])
    assert again.vocabulary.dump() == text().vocabulary.dump()


def test_padding_of_a_text_changes_nothing():
    condition = text().eval()
    short, length = condition.parse("a 3", 1), condition.vocabulary.length
    out = condition(short, 1)
    real = int((short != PAD).sum())
    assert real < length
    cut = condition(short[:, :real], 1)
    torch.testing.assert_close(out.tokens[:, :real], cut.tokens)
    torch.testing.assert_close(out.vector, cut.vector)
    assert out.mask.sum() == real


def test_rows_without_a_box_change_nothing():
    boxes = torch.tensor([[[1, 0.1, 0.2, 0.3, 0.4], [0, 0.5, 0.5, 0.2, 0.1]]])
    few, many = (LayoutCondition(("a", "b"), most, (32, 32), (16, 16), 32).eval() for most in (2, 6))
    many.load_state_dict(few.state_dict())
    short, out = few(boxes, 1), many(torch.cat([boxes, torch.full((1, 4, 5), -1.0)], 1), 1)
    assert out.mask.sum() == short.mask.sum() == 3
    torch.testing.assert_close(out.tokens[out.mask], short.tokens[short.mask])
    torch.testing.assert_close(out.vector, short.vector)
    torch.testing.assert_close(out.channels, short.channels)


@pytest.mark.parametrize("make", [text, sentence])
def test_a_missing_caption_asks_for_nothing(make):
    condition = make().eval()
    assert same(condition(condition.column([None, ""]), 2), condition(None, 2))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a 3 lefft of a 7", "word 'lefft': did you mean 'left'"),
        ("a cat", "word 'cat'"),
        ("a 3 and a 3 and a 3 and a 3 and a 3 and a 3", "shorten it"),
        (7, "a text must be a string"),
    ],
)
def test_texts_that_cannot_be_read(prompt, message):
    with pytest.raises(UsageError, match=message):
        text().parse([prompt], 1)


def test_what_a_frozen_encoder_read_is_projected_and_its_padding_is_not():
    """Tokens are W f(word) + b, normalised; the vector is that of their mean; what stands beyond the last word has no part."""
    condition = sentence().eval()
    raw = condition.parse(["a 3 left", "an 8"], 2)
    assert raw.shape == (2, 10, 5)  # as many tokens as the longest caption
    out = condition(raw, 2)
    assert out.mask.sum(1).tolist() == [3, 2]
    linear, norm = condition.project
    for i, words in enumerate((["a", "3", "left"], ["an", "8"])):
        features = Letters()([" ".join(words)], len(words))[0].half().float()
        tokens = norm(features @ linear.weight.T + linear.bias)
        torch.testing.assert_close(out.tokens[i, : len(words)], tokens)
        torch.testing.assert_close(out.vector[i], condition.pool(tokens.mean(0)))


def test_a_frozen_encoder_is_no_part_of_the_weights_and_the_length_of_captions_is():
    first, second = sentence().eval(), SentenceCondition(Letters(), 16).eval()
    assert {name.split(".")[0] for name in first.state_dict()} == {"project", "null", "pool", "length"}
    with pytest.raises(UsageError, match="call `fit` with captions"):
        second.parse("a 3", 1)
    second.load_state_dict(first.state_dict())
    raw = first.column(CAPTIONS)
    assert torch.equal(second.column(CAPTIONS), raw)
    assert same(first(raw, 4), second(raw, 4))


def test_a_frozen_encoder_reads_words_that_no_caption_had_but_no_longer_texts():
    condition = sentence().eval()
    assert condition.parse("eleven cats", 1).any()
    with pytest.raises(UsageError, match="has 11 tokens, and the longest caption had 10: shorten it"):
        condition.parse("a b c d e f g h i j k", 1)


# layout


def test_the_order_of_boxes_has_no_meaning():
    condition = layout().eval()
    boxes = [["3", 1, 2, 8, 9], ["7", 20, 4, 10, 10], ["0", 3, 18, 12, 11]]
    a, b = (condition(condition.parse(value, 1), 1) for value in (boxes, boxes[::-1]))
    torch.testing.assert_close(a.vector, b.vector)
    torch.testing.assert_close(a.channels, b.channels)
    torch.testing.assert_close(a.tokens[:, 1:], b.tokens[:, 1:].flip(1))


@pytest.mark.parametrize("space", [(32, 32), (8, 8), (5, 7)])
def test_a_painted_box_has_its_area(space):
    """The coverage channel sums to the box's share of the picture, at any resolution; inside it is 1."""
    condition = layout(space=space)
    (raw,) = condition.parse([["3", 3, 5, 10, 7]], 1)
    channels = condition(raw[None], 1).channels
    coverage = channels[0, -3]
    assert coverage.sum().item() == pytest.approx(70 / 32**2 * space[0] * space[1], rel=1e-5)
    assert coverage.max() <= 1 + 1e-6
    torch.testing.assert_close(channels[0, :-3], coverage * condition.colours.weight[3][:, None, None])
    if space == (32, 32):
        assert coverage[5:12, 3:13].eq(1).all()


def test_layouts_in_both_spellings_and_mirrored():
    condition = layout()
    a = condition.parse([["3", 1, 2, 8, 9], [7, 20, 4, 10, 10]], 1)
    b = condition.parse({"bbox": [[1, 2, 8, 9], [20, 4, 10, 10]], "categories": ["3", 7]}, 1)
    column = condition.column([torch.tensor([[3, 1, 2, 8, 9], [7, 20, 4, 10, 10]])])
    assert torch.equal(a, b)
    assert torch.equal(a, column)
    mirrored = condition.mirror(a)
    torch.testing.assert_close(condition.mirror(mirrored), a)
    torch.testing.assert_close(condition(mirrored, 1).channels[:, -3], condition(a, 1).channels[:, -3].flip(-1))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([["cat", 1, 1, 2, 2]], "unknown class 'cat'"),
        ([["3", 1, 1, 0, 2]], "does not lie within 32x32"),
        ([["3", 30, 1, 5, 2]], "does not lie within 32x32"),
        ([["3", 1, 1, 2]], "a box is written"),
        ([["3", 1, 1, 2, 2]] * 4, "no training sample had more than 3"),
        ([["3", "x", 1, 2, 2]], "numbers of pixels"),
        ({"bbox": [[1, 1, 2, 2]]}, "a layout is written"),
        (7, "a layout is a list of boxes"),
        ("3", "a layout is a list of boxes"),
        ([7], "a layout is a list of boxes"),
    ],
)
def test_layouts_that_cannot_be_read(value, message):
    with pytest.raises(UsageError, match=message):
        layout().parse(value, 1)


def test_boxes_of_texts_are_those_of_classes_with_words():
    """What is read of a column is what is parsed of its names; a new text of known words is another thing in the same place."""
    condition = text_layout().eval()
    column = condition.column([torch.tensor([[1, 1, 2, 8, 9], [2, 20, 4, 10, 10]]), torch.zeros(0, 5, dtype=torch.int64)])
    asked = condition.parse([[["a blue dog", 1, 2, 8, 9], [7, 20, 4, 10, 10]], []], 2)
    assert torch.equal(column, asked)
    names = [[name for _, name, *_ in condition.render(raw).boxes] for raw in asked]
    assert names == [["a blue dog", "7"], []]
    a, b = condition(asked, 2), condition(condition.parse([["a red dog", 1, 2, 8, 9], [7, 20, 4, 10, 10]], 1), 1)
    assert (a.tokens[0, 1] - b.tokens[0, 1]).abs().max() > 1e-3
    torch.testing.assert_close(a.channels[0, -3:], b.channels[0, -3:])
    assert not torch.allclose(a.channels[0, :-3], b.channels[0, :-3])
    assert a.tokens[1].isfinite().all()
    assert condition.render(condition.parse([["a red dog", 1, 2, 8, 9]], 1)[0]).boxes[0][1].replace(" ", "") == "areddog"
    mirrored = condition.mirror(asked)
    torch.testing.assert_close(condition.mirror(mirrored), asked)
    assert mirrored[0, 0, 1].item() == pytest.approx(1 - 9 / 32)
    with pytest.raises(UsageError, match="has the word 'green'"):
        condition.parse([["a green dog", 1, 2, 8, 9]], 1)


def test_conditions_with_equal_and_with_different_inputs():
    other = TextCondition(16)
    other.fit(("a 3 above a 5",))
    assert Conditioner({"text": text()}).reads_like(Conditioner({"text": text()}))
    assert not Conditioner({"text": text()}).reads_like(Conditioner({"text": other}))
    assert not Conditioner({"text": text()}).reads_like(Conditioner({"text": sentence()}))
    assert not Conditioner({"text": text()}).reads_like(Conditioner({"words": text()}))
    assert not Conditioner({"class": ClassCondition("ab", 4)}).reads_like(Conditioner({"class": ClassCondition("ba", 4)}))
    assert not Conditioner({"layout": layout()}).reads_like(Conditioner({"layout": text_layout()}))
    halves, quarters = (UpscaleCondition(1, (8, 8), (8, 8), True, factor) for factor in (2, 4))
    assert not Conditioner({"upscale": halves}).reads_like(Conditioner({"upscale": quarters}))


# maps and images


def test_a_map_acts_locally_at_any_resolution():
    condition = MapCondition("abc", (16, 12), (8, 6), 4)
    a = torch.zeros(1, 16, 12, dtype=torch.uint8)
    b = a.clone()
    b[0, 2, 2] = 3
    difference = (condition(a, 1).channels - condition(b, 1).channels).abs().sum(1)[0]
    assert difference.shape == (8, 6)
    assert difference[1, 1] > 0
    assert (difference[4:] == 0).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(7, 8, dtype=torch.uint8), "8 rows of 8"),
        (torch.full((8, 8), 4), "to 3"),
        (torch.zeros(8, 8), "whole number"),
    ],
)
def test_maps_that_cannot_be_read(value, message):
    with pytest.raises(UsageError, match=message):
        maps().parse(value, 1)


def test_edges_of_steps_and_ramps():
    """Sobel's gradient of a plane of slope s is 2s in these units; a step of height h has magnitude h on both sides."""
    ramp = 0.1 * torch.arange(8.0).expand(1, 1, 8, 8)
    torch.testing.assert_close(edges(ramp)[..., 1:-1], torch.full((1, 1, 8, 6), 0.2))
    step = (torch.arange(8) >= 4).float().expand(1, 3, 8, 8) * 0.7
    expected = torch.zeros(8)
    expected[3:5] = 0.7
    torch.testing.assert_close(edges(step)[0, 0], expected.expand(8, 8))
    torch.testing.assert_close(edges(step.transpose(2, 3)), edges(step).transpose(2, 3))
    assert (edges(torch.full((1, 1, 4, 4), 0.3)) == 0).all()


def test_a_smaller_image_holds_means():
    condition, x = UpscaleCondition(1, (8, 8), (8, 8), True, 4), torch.rand(2, 1, 8, 8)
    small = condition.derive(x, StreamNoise(2, 0, 0))
    torch.testing.assert_close(small[1, 0, 1, 0], x[1, 0, 4:, :4].mean())
    with pytest.raises(UsageError, match="factor=3"):
        UpscaleCondition(1, (8, 8), (8, 8), True, 3)


def test_hidden_areas_depend_on_the_seed_alone_and_cover_what_they_should():
    n = 3000
    areas = hidden(StreamNoise(n, 0, 0), (16, 16))[:, 0]
    assert torch.equal(hidden(SampleNoise([5, 9]), (16, 16))[1], hidden(SampleNoise([9]), (16, 16))[0])
    share = areas.float().mean((1, 2))
    assert (share > 0).all()
    assert (share < 1).all()
    halves = (areas[:, :8].all(2).all(1) & ~areas[:, 8:].any(2).any(1)) | (
        areas[:, 8:].all(2).all(1) & ~areas[:, :8].any(2).any(1)
    )
    assert binomtest(int(halves.sum()), n, 1 / 6).pvalue > 1e-3  # upper and lower: half of a third


def test_hidden_pixels_have_no_effect():
    condition = InpaintCondition(1, (8, 8), (8, 8), True)
    x, known = torch.rand(1, 8, 8), (torch.rand(8, 8) < 0.5).float()
    other = torch.where(known > 0, x, torch.rand(1, 8, 8))
    a, b = (condition(condition.parse((image, known), 1), 1).channels for image in (x, other))
    assert torch.equal(a, b)
    raw = condition.derive(x[None], StreamNoise(1, 0, 0))
    assert ((raw[:, :1] == x) | (raw[:, 1:] == 0)).all()


def test_a_hole_is_as_large_as_its_picture():
    with pytest.raises(UsageError, match="has 8x7 pixels, and the image has 8x8"):
        InpaintCondition(1, (8, 8), (8, 8), True).parse((torch.rand(1, 8, 8), torch.ones(8, 7)), 1)


@pytest.mark.parametrize("names", [("3", "77", "500"), ("-1", "0", "1"), ("01", "02"), ("3", "cat")])
def test_where_names_are_numbers_a_number_is_only_a_name(names):
    kind = ClassCondition(names, 4)
    for label, name in enumerate(names):
        assert kind.parse(name, 1).tolist() == [label]
    for absent in {"0", "1", "2", "4"} - set(names):
        with pytest.raises(UsageError, match=f"unknown class '{absent}'"):
            kind.parse(absent, 1)
    assert ClassCondition(["cat", "dog"], 4).parse("1", 1).tolist() == [1]
