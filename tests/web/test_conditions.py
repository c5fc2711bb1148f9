"""Each kind of control on the page Generate, with a model that was trained with it: what is asked for, drawn and restored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect

from ancestral.app.sampling.provenance import read
from ancestral.app.sampling.tuning import Setting, Tuning
from ancestral.app.training.run import Run
from ancestral.app.training.saved import weights_of

pytestmark = pytest.mark.slow


@pytest.fixture
def draw(page, tmp_path):
    """Press Generate. Returns the content of the PNG and its record."""

    def press():
        page.get_by_label("How many").select_option("4")
        page.get_by_role("button", name="Generate", exact=True).click()
        with page.expect_download() as download:
            page.get_by_role("link", name="Save PNG").click()
        content = Path(download.value.path()).read_bytes()
        return content, read(content, tmp_path / "pictures").request

    return press


@pytest.fixture
def tiles(page, pixels):
    """The pixels of the samples on the page."""
    return lambda: np.stack([pixels(tile) for tile in page.locator(".tile canvas").all()])


def test_a_number_is_asked_for_by_a_slider(page, go, draw, tiles, drop):
    go("generate/number")
    radius, box = page.get_by_label("radius", exact=True), page.get_by_label("Ask for this radius")
    assert draw()[1].conditions.numbers == ()
    free = tiles()
    radius.fill("5")
    expect(box).to_be_checked()
    content, request = draw()
    assert request.conditions.numbers == ("radius=5",)
    large = tiles()
    assert not np.array_equal(large, free)
    page.get_by_label("left, as a number").fill("3.5")
    assert draw()[1].conditions.numbers == ("radius=5,left=3.5",)
    box.uncheck()
    assert draw()[1].conditions.numbers == ("left=3.5",)
    drop(content)
    expect(page.locator("[data-restored=true]")).to_be_visible()
    assert np.array_equal(tiles(), large)
    expect(page.get_by_label("radius, as a number")).to_have_value("5")
    expect(box).to_be_checked()
    expect(page.get_by_label("Ask for this left")).not_to_be_checked()


@pytest.mark.long
def test_prompts_are_taken_in_turn_and_an_unknown_word_is_said(page, go, draw, tiles, drop):
    go("generate/text")
    prompt = page.get_by_label("Prompt")
    suggestions = page.locator(".chips button.small")
    expect(suggestions).to_have_count(2)  # the different captions of held-out data
    suggestions.get_by_text("a small disc").click()
    suggestions.get_by_text("a large disc").click()
    expect(prompt).to_have_value("a small disc\na large disc")
    content, request = draw()
    assert request.conditions.prompts == ("a small disc", "a large disc")
    assert page.locator(".tile figcaption").all_inner_texts() == ["a small disc", "a large disc"] * 2
    before = tiles()
    prompt.fill("a purple hippopotamus")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("has the word 'purple'")
    drop(content)
    expect(page.locator("[data-restored=true]")).to_be_visible()
    assert np.array_equal(tiles(), before)
    expect(prompt).to_have_value("a small disc\na large disc")


@pytest.mark.long
def test_a_picture_is_asked_for_by_one_of_its_kind(page, go, draw, tiles, drop, pixels):
    """The page offers the conditioning images of held-out data, outlines, and not the samples, which are full."""
    go("generate/image")
    offered = page.locator(".strip button")
    expect(offered).to_have_count(20)
    outline = pixels(offered.nth(3).locator("canvas"))[..., 0]
    middle = np.argwhere(outline > 127).mean(0).astype(int)
    assert outline[tuple(middle)] < 127
    offered.nth(3).click()
    chosen = page.get_by_label("the chosen picture")
    assert np.array_equal(pixels(chosen)[..., 0], outline)
    content, request = draw()
    assert request.conditions.image is not None
    before = tiles()
    offered.nth(4).click()
    draw()
    assert not np.array_equal(tiles(), before)
    page.get_by_role("button", name="No picture").click()
    assert draw()[1].conditions.image is None
    drop(content)
    expect(page.locator("[data-restored=true]")).to_be_visible()
    assert np.array_equal(tiles(), before)
    expect(chosen).to_be_visible()


@pytest.mark.long
def test_a_part_of_a_picture_is_repainted_by_the_keyboard_alone(page, go, draw, tiles):
    go("generate/digits")
    page.get_by_text("Begin with a picture").first.click()
    page.get_by_role("radio", name="No").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Held-out sample 3").press("Enter")
    page.get_by_role("button", name="Clear").press("Enter")
    page.get_by_label("Brush, as a number").fill("0.5")
    page.get_by_label("arrow keys move").focus()
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "Space", "ArrowLeft", "Space", "Backspace"):  # begins in the middle
        page.keyboard.press(key)
    page.get_by_role("button", name="Generate", exact=True).focus()
    edit = draw()[1].edit
    with Image.open(edit.mask) as mask:
        assert np.argwhere(np.asarray(mask.convert("L")) > 0).tolist() == [[3, 3]]
    assert len({tile[:, 4:].tobytes() for tile in tiles()}) == 1, "what is not painted stays"


def test_boxes_maps_and_sketches_are_drawn_with_the_mouse(page, go, draw, tiles, drop, stroke):
    go("generate/scene")
    canvas = {name: page.locator(f"canvas[aria-label^='{name}']") for name in ("Boxes", "Map", "Sketch")}
    stroke(canvas["Boxes"], (0.25, 0.25), (0.75, 0.5))
    expect(page.get_by_role("button", name="Remove 0 at 4, 4")).to_be_visible()
    boxed = draw()[1].conditions
    assert (boxed.layout, boxed.map, boxed.others) == ([["0", 4, 4, 8, 4]], None, {})
    before = tiles()
    stroke(canvas["Map"], (0.1, 0.8), (0.9, 0.8))
    stroke(canvas["Sketch"], (0.5, 0.1), (0.5, 0.9))
    content, request = draw()
    assert not np.array_equal(tiles(), before)
    painted, drawn = request.conditions.map, request.conditions.others["sketch"]
    assert set(np.unique(painted)) == {0, 1}
    assert (painted[11:15] == 1).any()
    assert not painted[:8].any()
    assert drawn.shape == (1, 16, 16)
    assert drawn[0, :, 8].sum() > 8 > drawn[0, :, 0].sum()
    after = tiles()
    go("runs")
    drop(content)
    expect(page.locator("[data-restored=true]")).to_be_visible()
    assert np.array_equal(tiles(), after)
    expect(page.get_by_role("button", name="Remove 0 at 4, 4")).to_be_visible()


@pytest.mark.long
def test_a_small_picture_is_enlarged(page, go, draw):
    go("generate/scene")
    page.get_by_text("Begin with a picture").first.click()
    page.get_by_role("radio", name="Enlarge").click()
    page.get_by_role("group", name="is enlarged").get_by_role("button", name="Held-out sample 3").click()
    edit = draw()[1].edit
    with Image.open(edit.upscale) as small:
        assert small.size == (4, 4)


@pytest.mark.long
def test_a_tuned_run_says_so_and_draws_with_its_sampler(page, go, draw, server):
    run = Run(server.home / "number")
    few = [Setting(4, "unipc", (1.0, 0.7, 0.4, 0.2, 0.0), 0.03, 0.2), Setting(8, "unipc", "logsnr", 0.01, 0.04)]
    spacings = {"logsnr": {4: 0.2, 8: 0.04}}
    Tuning(weights_of(run), tuple(few), 4, 8, 0.02, spacings, 1.0, 24).save(run)
    go("generate/number")
    steps, said = page.get_by_label("Steps", exact=True), page.locator(".help[role=status]")
    expect(steps).to_have_value("4")
    expect(said).to_have_text("Tuned: 4 steps of unipc at fitted noise levels.")
    request = draw()[1]
    assert (request.steps, request.solver, request.spacing) == (4, "unipc", few[0].spacing)
    page.get_by_role("button", name="Best: 8 steps").click()
    expect(steps).to_have_value("8")
    assert (draw()[1].solver, draw()[1].spacing) == ("unipc", "logsnr")
    steps.fill("6")
    expect(said).to_contain_text("Not tuned for 6 steps")
    page.get_by_role("button", name="Quick: 4 steps").click()
    page.get_by_label("Solver").select_option("heun")
    expect(said).to_contain_text("not used")
    assert (draw()[1].steps, draw()[1].solver) == (4, "heun")
    go("runs/number")
    expect(page.get_by_text("4 steps of unipc at fitted noise levels; tuned for 4, 8 steps")).to_be_visible()


@pytest.mark.long
def test_the_walk_is_a_film_that_its_png_draws_again(page, go, drop):
    go("generate/digits")
    page.get_by_role("button", name="Walk").click()
    page.get_by_label("Seeds of the walk").fill("3, 7")
    page.get_by_label("Pictures between two seeds", exact=True).fill("3")
    page.get_by_role("button", name="Generate", exact=True).click()
    film = page.get_by_alt_text("A film that walks")
    expect(film).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Save PNG").click()
    content = Path(download.value.path()).read_bytes()
    go("runs")
    drop(content)
    expect(page.locator("[data-restored=true]")).to_be_visible()
    expect(page.get_by_label("Seeds of the walk")).to_have_value("3, 7")
