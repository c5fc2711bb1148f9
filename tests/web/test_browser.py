"""The studio in a real browser: the walks that people take, on a small run, with the accessibility of every page."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(sys.prefix) / "aside" / "axe.min.js"  # `make test` fetches it
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
    pytest.mark.slow,
]
PAGES = ["", "runs", "runs/digits", "generate/digits", "gallery", "lab/forward", "lab/score"]
WALKS = int(os.environ.get("STUDIO_WALKS", "1"))  # times that the walk from a zip to a picture is made
SHOTS = os.environ.get("STUDIO_SHOTS")  # a folder for pictures of every page


class Server:
    """`ancestral studio` as a process."""

    def __init__(self, home, port=None):
        self.home, self.port = home, port
        self.start()

    def start(self):
        options = [str(self.home), "--no-browser", "--device", "cpu"] + (
            [] if self.port is None else ["--port", str(self.port)]
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ancestral", "studio", *options], stdout=subprocess.PIPE, text=True
        )
        self.address = self.process.stdout.readline().strip()
        self.port = int(self.address.split(":")[2].split("/")[0])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory):
    home = tmp_path_factory.mktemp("studio")
    shutil.copytree(trained / "digits", home / "digits")
    found = Server(home)
    yield found
    found.kill()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield found
        found.close()


@pytest.fixture
def page(browser, server):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    found = context.new_page()
    problems = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.goto(server.address)
    expect(found.locator("nav a[aria-current]").first).to_be_visible(timeout=30_000)
    yield found
    context.close()
    assert not problems


def go(page, server, place):
    page.goto(f"http://127.0.0.1:{server.port}/#/{place}")


def pixels(canvas):
    """The pixels of a canvas, as the text of a PNG."""
    return canvas.evaluate("c => c.toDataURL()")


def colours(canvas):
    """The number of different colours in a canvas."""
    count = "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    return canvas.evaluate(count)


@pytest.mark.parametrize("walk", range(WALKS))
def test_a_zip_becomes_a_training_that_stops_and_continues_from_the_page(page, server, walk):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for i in range(40):
            picture = io.BytesIO()
            Image.fromarray(np.random.RandomState(i).randint(0, 256, (16, 16), np.uint8)).save(picture, "PNG")
            archive.writestr(f"{'<img src=x onerror=alert(1)>' if i % 2 else 'b'}/{i}.png", picture.getvalue())
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files([{"name": "noise.zip", "mimeType": "application/zip", "buffer": content.getvalue()}])
    expect(page.get_by_text("<img src=x onerror=alert(1)> (")).to_be_visible(timeout=30_000)
    page.get_by_role("radio", name="VAE").click()
    expect(page.get_by_text("Measured on this machine")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", name="Health")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("training", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text(" steps in ")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped", exact=True)).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("training", exact=True)).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped", exact=True)).to_be_visible(timeout=60_000)
    assert not page.locator("img[src=x]").count()


def test_a_png_that_is_dropped_restores_its_settings_and_its_pixels(page, server, tmp_path):
    go(page, server, "generate/digits")
    page.get_by_role("button", name="7", exact=True).click()
    page.get_by_label("Steps", exact=True).fill("6")
    page.get_by_label("Seed", exact=True).fill("11")
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator(".tile canvas")).to_have_count(16)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save PNG").click()
    file = tmp_path / "samples.png"
    download.value.save_as(file)
    before = pixels(page.locator(".tile canvas").first)
    go(page, server, "runs")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible(timeout=30_000)
    content = list(file.read_bytes())
    page.evaluate(
        """content => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(content)], "samples.png", { type: "image/png" }));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        content,
    )
    expect(page.locator("[data-restored=true]")).to_be_visible(timeout=30_000)
    assert pixels(page.locator(".tile canvas").first) == before
    assert page.get_by_label("Seed", exact=True).input_value() == "11"
    assert page.get_by_role("button", name="7", exact=True).get_attribute("aria-pressed") == "true"


def test_the_slider_moves_through_time(page, server):
    go(page, server, "runs/digits")
    late = page.locator(".tile canvas").first
    expect(late).to_be_visible(timeout=30_000)
    expect(page.get_by_text("step 60")).to_be_visible(timeout=30_000)
    before = pixels(late)
    page.get_by_label("Time of the preview").fill("0")
    expect(page.get_by_text("step 30")).to_be_visible(timeout=30_000)
    assert until(lambda: pixels(page.locator(".tile canvas").first) != before)
    page.get_by_label("Show the nearest training sample").check()
    expect(page.get_by_text("nearer to the training set")).to_be_visible(timeout=30_000)


def test_the_forward_process_and_the_score_answer(page, server):
    go(page, server, "lab/forward")
    plane = page.locator(".plane canvas[aria-label='The data at time t']")
    expect(plane).to_be_visible(timeout=30_000)
    expect(page.get_by_text("nats", exact=False).first).to_be_visible(timeout=30_000)
    before = pixels(plane)
    page.get_by_label("Time t", exact=True).fill("1")
    assert until(lambda: pixels(plane) != before)
    go(page, server, "lab/score")
    field = page.locator(".plane.click canvas[tabindex='0']").last
    expect(field).to_be_visible(timeout=30_000)
    assert until(lambda: colours(field) > 20)
    before = pixels(field)
    field.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert until(lambda: pixels(field) != before)


def test_a_lecture_needs_only_the_keyboard(page, server):
    go(page, server, "lab/forward?show")
    expect(page.get_by_role("heading", name="The forward process")).to_be_visible(timeout=30_000)
    assert not page.locator("header.bar").is_visible()
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="The score field")).to_be_visible(timeout=30_000)
    page.keyboard.press("6")
    expect(page.get_by_role("heading", name="Guidance against variety")).to_be_visible(timeout=30_000)
    page.keyboard.press("p")
    expect(page.get_by_role("heading", name="A latent plane to walk in")).to_be_visible(timeout=30_000)


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 380)])
def test_every_page_fits_and_is_accessible(browser, server, theme, width):
    """No page is wider than its window, and axe finds nothing serious."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
    page = context.new_page()
    page.goto(server.address)
    for place in PAGES:
        go(page, server, place)
        expect(page.locator("main h1:not(.wait)")).to_be_visible(timeout=30_000)
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), place
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{theme}-{width}-{place.replace('/', '-') or 'home'}.png", full_page=True)
        if AXE.is_file():
            page.evaluate(AXE.read_text(encoding="utf-8"))
            found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
            serious = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
            assert not serious, (place, serious)
    context.close()


@pytest.mark.skipif("STUDIO_WALKS" not in os.environ, reason="a long walk: set STUDIO_WALKS=1")
def test_a_server_that_is_killed_returns_with_its_training(page, server):
    go(page, server, "?source=rings")
    page.get_by_role("radio", name="VAE").click()
    page.get_by_label("Name of the run").fill("survivor")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_text("training", exact=True)).to_be_visible(timeout=60_000)
    expect(page.get_by_text(" steps in ")).to_be_visible(timeout=60_000)
    server.kill()
    expect(page.get_by_text("does not answer")).to_be_visible(timeout=20_000)
    server.start()
    expect(page.get_by_text("does not answer")).to_be_hidden(timeout=30_000)
    expect(page.get_by_text("training", exact=True)).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped", exact=True)).to_be_visible(timeout=60_000)
    rows = [json.loads(line) for line in (server.home / "survivor" / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False
