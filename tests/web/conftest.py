"""A studio with small runs, a client that has its token, and a browser on its pages."""

import base64
import io
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")

from fastapi.testclient import TestClient
from PIL import Image

import ancestral as an
from ancestral.app.web import Studio, create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SMALL = ("model.width=16", "train.batch=16", "train.diagnoses=1")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with one run: a small diffusion model of digits with classes."""
    home = tmp_path_factory.mktemp("runs")
    an.train("digits", budget="60it", out=home / "digits", condition="class", settings=(*SMALL, "train.previews=2"), quiet=True)
    return home


@pytest.fixture(scope="session")
def conditioned(tmp_path_factory):
    """A folder with runs of discs, each controlled by another condition of them, named after it."""
    home = tmp_path_factory.mktemp("conditions")
    np.savez(home / "discs.npz", **discs(200))
    for condition, budget in (("number", "60it"), ("text", "20it"), ("image", "20it")):  # numbers act after some steps only
        settings = (*SMALL, "model.width=8", "train.previews=0")
        an.train(home / "discs.npz", budget=budget, out=home / condition, condition=condition, settings=settings, quiet=True)
    return home


def discs(n, side=16):
    """White discs: their pictures, radius and distance from the left, captions, and their outlines as conditioning images."""
    rng = np.random.default_rng(0)
    radius = rng.uniform(2, 6, n)
    left, top = (rng.uniform(radius, side - radius) for _ in range(2))
    rows, columns = np.mgrid[:side, :side] + 0.5
    inside = radius[:, None, None] - np.hypot(columns - left[:, None, None], rows - top[:, None, None])
    return {
        "x": (255 * (inside + 0.5).clip(0, 1)).astype(np.uint8),
        "conditioning": (255 * (1.2 - abs(inside)).clip(0, 1)).astype(np.uint8)[..., None],
        "captions": np.array([f"a {'small' if r < 4 else 'large'} disc" for r in radius]),
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


@pytest.fixture(scope="module")
def server(trained, conditioned, tmp_path_factory):
    home = tmp_path_factory.mktemp("studio")
    for run in (trained / "digits", *(path for path in conditioned.iterdir() if path.is_dir())):
        shutil.copytree(run, home / run.name)
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


@pytest.fixture
def go(page):
    """Open a place of the studio, as a link does. Returns when its heading is there."""

    def open_(place):
        page.evaluate("document.querySelector('main').replaceChildren()")  # nothing of the screen before is read
        page.evaluate(
            "to => location.hash === to ? dispatchEvent(new HashChangeEvent('hashchange')) : (location.hash = to)", f"#/{place}"
        )
        page.locator("main h1:not(.wait)").wait_for()

    return open_


@pytest.fixture
def pixels():
    """The pixels of a canvas, as an array `(height, width, 4)`."""

    def read(canvas):
        content = canvas.evaluate("c => c.toDataURL()").partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            return np.asarray(image.convert("RGBA")).copy()

    return read


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
