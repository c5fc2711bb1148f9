"""The studio in a real browser: the walks that people take, on a small run, with the accessibility of every page."""

import json
import os
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect

pytestmark = pytest.mark.slow
PAGES = {  # what a page shows when it is ready
    "": "text=Drop your data here",
    "?source=digits": "text=Measured on this machine",
    "runs": ".card.run canvas",
    "runs/digits": ".chart svg",
    "runs/HOSTILE": ".chart svg",
    "runs/table": ".shown img",
    "runs/begun": "text=has not measured anything yet",
    "runs/damaged": ".chart svg",
    "runs/unreadable": ".badge.bad",
    "runs/nowhere": "text=There is no run nowhere in the folders",
    "pair?a=digits&b=number": ".chart svg",
    "generate/digits": "text=Press Generate",
    "generate/number": "text=Ask for this radius",
    "generate/text": ".chips button.small",
    "generate/image": ".strip button",
    "generate/scene": "text=Choose a class and draw with the mouse",
    "generate/table": "text=Press Generate",
    "generate/damaged": "[role=alert]",
    "gallery": "text=Gallery",
    "lab/forward": "text=nats",
    "lab/score": "text=11.4",
    "lab/readings": "text=relative error",
    "lab/gan": "text=Step",
    "lab/vae": "text=nats",
    "lab/guidance": "text=%",
    "lab/latent": "text=Stage",
    "lab/score?show": "text=11.4",
    "theory/gan.vanishing-gradient": "text=minimax gradient vanishes",
}
FEW = ("", "runs", "runs/digits", "generate/digits", "generate/damaged", "lab/forward")
WALKS = int(os.environ.get("STUDIO_WALKS", "1"))  # times that the walk from a zip to a picture is made
LEFT = """() => {
  const used = document.querySelectorAll("a[href], button, input, select, textarea, summary, iframe, [tabindex='0']");
  window.left = new Set([...used].filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility()));
  document.activeElement.blur();
}"""
LOOK = """() => {
  const e = document.activeElement, box = e.getBoundingClientRect(), style = getComputedStyle(e);
  left.delete(e);
  if (e === document.body || e.tagName === "IFRAME") return { left: left.size };
  const [x, y] = [box.left + box.width / 2, Math.max(0, Math.min(innerHeight - 1, box.top + box.height / 2))];
  const over = document.elementFromPoint(x, y), seen = over && (e.contains(over) || over.contains(e));
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const bad = ring && seen ? null : [ring ? "" : "no ring", seen ? "" : "covered", e.outerHTML.slice(0, 160)];
  return { left: left.size, bad };
}"""
SHOTS = os.environ.get("STUDIO_SHOTS")  # a folder for pictures of every page


@pytest.mark.long
@pytest.mark.parametrize("walk", range(WALKS))
def test_a_zip_becomes_a_picture_by_a_training_that_stops_and_continues(page, state, noise, tmp_path, walk):
    page.evaluate("window.clicks = 0; addEventListener('click', event => { window.clicks += event.isTrusted; }, true)")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files([{"name": "noise.zip", "mimeType": "application/zip", "buffer": noise}])
    expect(page.get_by_text("<img src=x onerror=alert(1)> (")).to_be_visible()
    page.get_by_role("radio", name="VAE").click()
    expect(page.get_by_text("Measured on this machine")).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", name="Health")).to_be_visible()
    state("training")
    expect(page.get_by_text(" steps in ")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    state("stopped")
    page.get_by_role("button", name="Continue").click()
    state("training")
    page.get_by_role("button", name="Stop").click()
    state("stopped")
    page.locator("main").get_by_role("link", name="Generate", exact=True).click()
    page.get_by_role("button", name="Generate", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Save PNG").click()
    download.value.save_as(tmp_path / "samples.png")
    with Image.open(tmp_path / "samples.png") as picture:
        assert json.loads(picture.text["ancestral"])["run"].startswith("noise")
    assert page.evaluate("clicks") + 1 <= 12  # with the one in the window that chooses the file
    assert not page.locator("img[src=x]").count()


def test_a_png_that_is_dropped_restores_its_settings_and_its_pixels(page, go, drop, pixels, tmp_path):
    go("generate/digits")
    page.get_by_role("button", name="7", exact=True).click()
    page.get_by_label("Steps", exact=True).fill("6")
    page.get_by_label("Seed", exact=True).fill("11")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator(".tile canvas")).to_have_count(16)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save PNG").click()
    before = pixels(page.locator(".tile canvas").first)
    go("runs")
    drop(Path(download.value.path()).read_bytes())
    expect(page.locator("[data-restored=true]")).to_be_visible()
    assert np.array_equal(pixels(page.locator(".tile canvas").first), before)
    assert page.get_by_label("Seed", exact=True).input_value() == "11"
    assert page.get_by_label("Steps", exact=True).input_value() == "6"
    assert page.get_by_role("button", name="7", exact=True).get_attribute("aria-pressed") == "true"


def test_the_slider_moves_through_time(page, go, pixels, until):
    go("runs/digits")
    late = page.locator(".tile canvas").first
    expect(late).to_be_visible()
    expect(page.get_by_text("step 60")).to_be_visible()
    before = pixels(late)
    page.get_by_label("Time of the preview").fill("0")
    expect(page.get_by_text("step 30")).to_be_visible()
    until(lambda: not np.array_equal(pixels(page.locator(".tile canvas").first), before))
    page.get_by_label("Show the nearest training sample").check()
    expect(page.get_by_text("nearer to the training set")).to_be_visible()


def tab(page, name):
    """Tab reaches all that can be used on the page. What has the focus has a ring, and nothing covers it."""
    page.evaluate(LEFT)
    for _ in range(300):
        page.keyboard.press("Tab")
        found = page.evaluate(LOOK)
        assert not found.get("bad"), (name, found)
        if not found["left"]:
            return
    raise AssertionError((name, page.evaluate("[...left].map((e) => e.outerHTML.slice(0, 160))")))


THEMES = [("light", 1280), ("dark", 380), *([("dark", 1280), ("light", 380)] if SHOTS else [])]


@pytest.fixture
def look(request, browser, server, hostile, to):
    """A page in a theme and a width, with the function that opens a place of the studio, and the name of its pictures."""
    theme, width = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(server.address)

    def open_(place, ready):
        to(page, place.replace("HOSTILE", quote(hostile)))
        expect(page.locator(f"#main >> {ready}").first).to_be_visible()

    yield page, open_, f"{theme}-{width}"
    context.close()


@pytest.mark.parametrize(
    ("look", "pages"),
    [(("light", 1280), FEW), *(pytest.param(look, PAGES, marks=pytest.mark.long) for look in THEMES)],
    indirect=["look"],
    ids=["few", *map(str, THEMES)],
)
def test_every_page_fits_and_is_accessible(look, pages, examine):
    page, open_, name = look
    for place in pages:
        open_(place, PAGES[place])
        words = "".join(c if c.isalnum() else "-" for c in place)[:60] or "home"
        examine(page, f"{name}-{words}")
        if name == "light-1280":
            tab(page, place)
        assert not page.locator("img[src=x]").count()


@pytest.mark.long
@pytest.mark.parametrize("look", THEMES, indirect=True, ids=str)
def test_every_dialog_is_accessible(look, examine):
    page, open_, name = look
    dialogs = {
        "Train longer": "runs/digits",
        "Fine-tune": "runs/digits",
        "Compare all families": "?source=digits",
    }
    for button, place in dialogs.items():
        open_(place, f"button:text('{button}')")
        opener = page.get_by_role("button", name=button)
        opener.click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        examine(page, f"{name}-dialog-{button.replace(' ', '-')}")
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(opener).to_be_focused()


@pytest.mark.long
@pytest.mark.parametrize("look", THEMES if SHOTS else THEMES[1:], indirect=True, ids=str)
def test_what_is_drawn_is_accessible(look, examine, stroke):
    """Samples with each kind of control, a grid, a walk, and the gallery that keeps them."""
    page, open_, name = look

    def draw(place, control):
        open_(f"generate/{place}", "text=Press Generate")
        control()
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(page.get_by_role("link", name="Save PNG")).to_be_visible()
        examine(page, f"{name}-drawn-{place}-{control.__name__.replace('_', '-')}")

    def classes():
        for digit in "037":
            page.get_by_role("button", name=digit, exact=True).click()

    def repaint():
        page.get_by_text("Begin with a picture").first.click()
        page.get_by_role("radio", name="Repaint a part").click()
        page.get_by_role("button", name="Held-out sample 3").click()

    def grid():
        page.get_by_role("button", name="Grid").click()

    def walk():
        page.get_by_role("button", name="Walk").click()

    def number():
        page.get_by_label("radius", exact=True).fill("5")

    def text():
        page.locator(".chips button.small").first.click()

    def picture():
        page.locator(".strip button").nth(3).click()

    def boxes_map_sketch():
        stroke(page.locator("canvas[aria-label^='Boxes']"), (0.2, 0.2), (0.8, 0.6))
        stroke(page.locator("canvas[aria-label^='Map']"), (0.2, 0.3), (0.8, 0.5))
        stroke(page.locator("canvas[aria-label^='Sketch']"), (0.3, 0.2), (0.5, 0.8), (0.7, 0.2))

    def enlarge():
        page.get_by_text("Begin with a picture").first.click()
        page.get_by_role("radio", name="Enlarge").click()
        page.get_by_role("group", name="is enlarged").get_by_role("button", name="Held-out sample 3").click()

    def nothing():
        pass

    for control in (classes, repaint, grid, walk):
        draw("digits", control)
    for place, control in {"number": number, "text": text, "image": picture, "table": nothing}.items():
        draw(place, control)
    for control in (boxes_map_sketch, enlarge):
        draw("scene", control)
    open_("gallery", ".masonry img")
    examine(page, f"{name}-gallery-full")


@pytest.mark.long
def test_an_empty_folder_says_how_to_begin(browser, started, tmp_path, to):
    server = started(tmp_path / "runs")
    page = browser.new_page()
    try:
        page.goto(server.address)
        for place, said in {
            "runs": "Train your first model",
            "generate": "There is no trained model yet",
            "gallery": "Nothing was drawn yet",
            "pair": "There must be at least two runs",
            "report?comparison=none": "There is no comparison none",
        }.items():
            to(page, place)
            expect(page.locator("#main").get_by_text(said)).to_be_visible()
        to(page, "runs")
        page.get_by_role("link", name="Start with handwritten digits").click()
        expect(page.get_by_role("heading", name="What was understood of digits")).to_be_visible()
    finally:
        page.close()
        server.kill()


@pytest.mark.long
def test_a_server_that_is_killed_returns_with_its_training(page, go, state, server):
    go("?source=rings")
    page.get_by_role("radio", name="VAE").click()
    page.get_by_label("Name of the run").fill("survivor")
    page.get_by_role("button", name="Start training").click()
    state("training")
    expect(page.get_by_text(" steps in ")).to_be_visible()
    server.kill()
    expect(page.get_by_text("does not answer")).to_be_visible()
    server.start()
    expect(page.get_by_text("does not answer")).to_be_hidden()
    state("training")
    page.get_by_role("button", name="Stop").click()
    state("stopped")
    rows = [json.loads(line) for line in (server.home / "survivor" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
