"""A studio with small runs, a client that has its token, and a browser on its pages."""

import base64
import io
import os
import shutil
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")

from fastapi.testclient import TestClient
from PIL import Image

import ancestral as an
from ancestral.app.web import Studio, create_app

AXE = Path(sys.prefix) / "aside" / "axe.min.js"  # `make test` fetches it
SHOTS = os.environ.get("STUDIO_SHOTS")  # a folder for pictures of every page
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SPATIAL = ("layout", "map", "sketch", "upscale")
SMALL = ("model.width=16", "train.batch=16", "train.diagnoses=1")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with one run: a small diffusion model of digits with classes."""
    home = tmp_path_factory.mktemp("runs")
    an.train("digits", budget="60it", out=home / "digits", condition="class", settings=(*SMALL, "train.previews=2"), quiet=True)
    return home


@pytest.fixture(scope="session")
def conditioned(tmp_path_factory):
    """A folder with runs of discs, named after the condition that controls them; `scene` has several. And a run of a table."""
    home = tmp_path_factory.mktemp("conditions")
    np.savez(home / "discs.npz", **discs(200))
    runs = {"number": "60it", "text": "20it", "image": "20it", "scene": "20it"}  # numbers act after some steps only
    for name, budget in runs.items():
        settings = (*SMALL, "model.width=8", "train.previews=0")
        condition = SPATIAL if name == "scene" else name
        an.train(home / "discs.npz", budget=budget, out=home / name, condition=condition, settings=settings, quiet=True)
    rng = np.random.default_rng(0)
    an.train(
        {"x": rng.normal(size=(200, 3))},
        model="vae",
        budget="20it",
        out=home / "table",
        settings=(*SMALL[1:], "train.previews=1"),
        quiet=True,
    )
    return home


def discs(n, side=16):
    """White discs: pictures, radius and distance from the left, captions, boxes, maps, and outlines as conditioning images."""
    rng = np.random.default_rng(0)
    radius = rng.uniform(2, 6, n)
    left, top = (rng.uniform(radius, side - radius) for _ in range(2))
    rows, columns = np.mgrid[:side, :side] + 0.5
    inside = radius[:, None, None] - np.hypot(columns - left[:, None, None], rows - top[:, None, None])
    return {
        "x": (255 * (inside + 0.5).clip(0, 1)).astype(np.uint8),
        "conditioning": (255 * (1.2 - abs(inside)).clip(0, 1)).astype(np.uint8)[..., None],
        "captions": np.array([f"a {'small' if r < 4 else 'large'} disc" for r in radius]),
        "boxes": np.stack([radius > 4, left - radius, top - radius, 2 * radius, 2 * radius], 1).astype(int)[:, None],
        "maps": (inside > 0).astype(np.uint8),
        "number": np.stack([radius, left], 1),
        "number_names": np.array(["radius", "left"]),
    }


@pytest.fixture
def studio(trained):
    return Studio([trained], device="cpu")


@pytest.fixture
def client(studio):
    with TestClient(create_app(studio), base_url="http://127.0.0.1:1") as found:
        found.headers["authorization"] = f"Bearer {studio.token}"
        yield found


@pytest.fixture(scope="session")
def noise():
    """A zip of noise in two folders, one of which has a hostile name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for i in range(40):
            picture = io.BytesIO()
            Image.fromarray(np.random.RandomState(i).randint(0, 256, (16, 16), np.uint8)).save(picture, "PNG")
            archive.writestr(f"{'<img src=x onerror=alert(1)>' if i % 2 else 'b'}/{i}.png", picture.getvalue())
    return content.getvalue()


class Server:
    """`ancestral studio` as a process."""

    def __init__(self, home):
        self.home, self.port = home, 0
        self.start()

    def start(self):
        options = [str(self.home), "--no-browser", "--device", "cpu"] + (["--port", str(self.port)] if self.port else [])
        command = [sys.executable, "-m", "ancestral", "studio", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        self.port = int(self.address.split(":")[2].split("/")[0])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def started():
    """Start a studio of a folder."""
    return Server


@pytest.fixture(scope="session")
def hostile():
    """The name of a run that would be a tag, and is wider than a page."""
    return "<img src=x onerror=alert(1)>" + "-with-a-name-that-is-wider-than-a-page" * 4


@pytest.fixture(scope="session")
def server(trained, conditioned, hostile, tmp_path_factory):
    """A studio of all small runs, with one of a hostile name, one without samples, and one that is damaged."""
    home = tmp_path_factory.mktemp("studio")
    for run in (trained / "digits", *(path for path in conditioned.iterdir() if path.is_dir())):
        shutil.copytree(run, home / run.name)
    shutil.copytree(trained / "digits", home / hostile)
    shutil.copytree(trained / "digits", home / "begun", ignore=shutil.ignore_patterns("samples", "*.safetensors"))
    (home / "begun" / "metrics.jsonl").write_text("")
    shutil.copytree(trained / "digits", home / "damaged")
    for file in (home / "damaged").rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    shutil.copytree(trained / "digits", home / "unreadable")
    (home / "unreadable" / "recipe.yaml").write_text("model: [")
    found = Server(home)
    yield found
    found.kill()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    playwright.expect.set_options(timeout=60_000)  # the machine may be busy
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield found
        found.close()


@pytest.fixture
def page(browser, server):
    """A page of the studio. At the end it must have met no error of a script."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    found = context.new_page()
    problems = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.goto(server.address)
    found.locator("main h1:not(.wait)").wait_for()
    yield found
    context.close()
    assert not problems


@pytest.fixture(scope="session")
def to():
    """Open a place of the studio on a page, as a link does. Returns when its heading is there."""

    def open_(page, place):
        page.evaluate("document.querySelector('main').replaceChildren()")  # nothing of the screen before is read
        page.evaluate(
            "to => location.hash === to ? dispatchEvent(new HashChangeEvent('hashchange')) : (location.hash = to)", f"#/{place}"
        )
        page.locator("main h1:not(.wait)").wait_for()

    return open_


@pytest.fixture
def go(page, to):
    """Open a place of the studio on the page."""
    return partial(to, page)


@pytest.fixture
def state(page):
    """Wait until the run on the page has a state."""
    from playwright.sync_api import expect

    return lambda word: expect(page.locator(".badge").get_by_text(word, exact=True)).to_be_visible()


@pytest.fixture
def pixels():
    """The pixels of a canvas, as an array `(height, width, 4)`."""

    def read(canvas):
        content = canvas.evaluate("c => c.toDataURL()").partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            return np.asarray(image.convert("RGBA")).copy()

    return read


@pytest.fixture
def examine():
    """Check a page: it is not wider than its window, and axe finds nothing serious. `STUDIO_SHOTS` has a picture made."""

    def examined(page, name):
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
        if SHOTS:
            page.evaluate("scrollTo(0, 0)")
            size = page.viewport_size
            whole = page.evaluate(
                "document.querySelector('dialog, iframe') ? innerHeight : document.documentElement.scrollHeight"
            )
            page.set_viewport_size(size | {"height": whole})  # so that what sticks to the edge of the window stands there
            page.wait_for_timeout(400)
            page.screenshot(path=f"{SHOTS}/{name}.png")
            page.set_viewport_size(size)
        if AXE.is_file():
            page.evaluate(AXE.read_text(encoding="utf-8"))
            found = page.evaluate("axe.run(document, { iframes: false, resultTypes: ['violations'] })")["violations"]
            serious = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
            assert not serious, (name, serious)

    return examined


@pytest.fixture
def stroke():
    """Draw a line on a canvas with the mouse, between places that are shares of its width and height."""

    def drawn(canvas, *places):
        mouse = canvas.page.mouse
        canvas.evaluate("c => c.scrollIntoView({ block: 'center' })")
        box = canvas.bounding_box()
        (x, y), *others = [(box["x"] + a * box["width"], box["y"] + b * box["height"]) for a, b in places]
        mouse.move(x, y)
        mouse.down()
        for place in others:
            mouse.move(*place)
        mouse.up()

    return drawn


@pytest.fixture
def until():
    """Wait for a condition that no locator has. Returns its value."""

    def wait(condition, seconds=60):
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "it takes too long"
            time.sleep(0.05)
        return found

    return wait


@pytest.fixture
def drop(page):
    """Drop a PNG on the page."""

    def dropped(content):
        page.evaluate(
            """content => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(content)], "samples.png", { type: "image/png" }));
                const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
                document.body.dispatchEvent(event);
            }""",
            list(content),
        )

    return dropped
