"""The studio in a real browser: the walks that people take, on a small run, with the accessibility of every page."""

import io
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect

AXE = Path(sys.prefix) / "aside" / "axe.min.js"  # `make test` fetches it
pytestmark = pytest.mark.slow
PAGES = {  # what a page shows when it is ready
    "": "text=Drop your data here",
    "?source=digits": "text=Measured on this machine",
    "runs": ".card.run canvas",
    "runs/digits": ".chart svg",
    "pair?a=digits&b=number": ".chart svg",
    "generate/digits": "text=Press Generate",
    "generate/number": "text=Ask for this radius",
    "generate/text": ".chips button.small",
    "generate/image": ".strip button",
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
WALKS = int(os.environ.get("STUDIO_WALKS", "1"))  # times that the walk from a zip to a picture is made
SHOTS = os.environ.get("STUDIO_SHOTS")  # a folder for pictures of every page


def state(page, word):
    """Wait until the run on the page has this state."""
    expect(page.locator(".badge").get_by_text(word, exact=True)).to_be_visible()


def a_zip(n=40):
    """A zip of noise in two folders, one of which has a hostile name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for i in range(n):
            picture = io.BytesIO()
            Image.fromarray(np.random.RandomState(i).randint(0, 256, (16, 16), np.uint8)).save(picture, "PNG")
            archive.writestr(f"{'<img src=x onerror=alert(1)>' if i % 2 else 'b'}/{i}.png", picture.getvalue())
    return content.getvalue()


@pytest.mark.parametrize("walk", range(WALKS))
def test_a_zip_becomes_a_picture_by_a_training_that_stops_and_continues(page, tmp_path, walk):
    page.evaluate("window.clicks = 0; addEventListener('click', event => { window.clicks += event.isTrusted; }, true)")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files([{"name": "noise.zip", "mimeType": "application/zip", "buffer": a_zip()}])
    expect(page.get_by_text("<img src=x onerror=alert(1)> (")).to_be_visible()
    page.get_by_role("radio", name="VAE").click()
    expect(page.get_by_text("Measured on this machine")).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", name="Health")).to_be_visible()
    state(page, "training")
    expect(page.get_by_text(" steps in ")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    state(page, "stopped")
    page.get_by_role("button", name="Continue").click()
    state(page, "training")
    page.get_by_role("button", name="Stop").click()
    state(page, "stopped")
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


@pytest.mark.parametrize(
    ("theme", "width"), [("light", 1280), ("dark", 380), *([("dark", 1280), ("light", 380)] if SHOTS else [])]
)
def test_every_page_fits_and_is_accessible(browser, server, theme, width):
    """No page is wider than its window, axe finds nothing serious, and the keyboard reaches what can be used."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(server.address)
    for place, ready in PAGES.items():
        page.evaluate("document.querySelector('main').replaceChildren()")
        page.goto(f"http://127.0.0.1:{server.port}/#/{place}")
        page.locator("main h1:not(.wait)").wait_for()
        expect(page.locator(f"#main >> {ready}").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), place
        if SHOTS:
            page.evaluate("scrollTo(0, 0)")
            name = "".join(c if c.isalnum() else "-" for c in place) or "home"
            page.screenshot(path=f"{SHOTS}/{theme}-{width}-{name}.png", full_page=True)
        if AXE.is_file():
            page.evaluate(AXE.read_text(encoding="utf-8"))
            found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
            serious = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
            assert not serious, (place, serious)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement !== document.body"), place
    context.close()


def test_a_server_that_is_killed_returns_with_its_training(page, go, server):
    go("?source=rings")
    page.get_by_role("radio", name="VAE").click()
    page.get_by_label("Name of the run").fill("survivor")
    page.get_by_role("button", name="Start training").click()
    state(page, "training")
    expect(page.get_by_text(" steps in ")).to_be_visible()
    server.kill()
    expect(page.get_by_text("does not answer")).to_be_visible()
    server.start()
    expect(page.get_by_text("does not answer")).to_be_hidden()
    state(page, "training")
    page.get_by_role("button", name="Stop").click()
    state(page, "stopped")
    rows = [json.loads(line) for line in (server.home / "survivor" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
