"""Walks through the studio in a browser, how fast it answers while a training uses the processor, and pictures of its screens.

    python benchmarks/studio.py --walks 10            # from a zip to a shared picture, without a terminal, ten times
    python benchmarks/studio.py --answers             # first paint, layout shift and interactions during a training
    python benchmarks/studio.py --shots docs/images   # every screen in both themes

It needs chromium and the packages of the group `test`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ancestral.app.data import load
from ancestral.app.pictures import to_uint8

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LONG = 400_000  # milliseconds that a training may take
MEASURE = """() => {
  window.found = { shift: 0, longest: 0, events: 0 };
  new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput) found.shift += e.value; })
    .observe({ type: "layout-shift", buffered: true });
  new PerformanceObserver((list) => {
    for (const e of list.getEntries()) { found.events += 1; found.longest = Math.max(found.longest, e.duration); }
  }).observe({ type: "event", durationThreshold: 16, buffered: true });
}"""
SCREENS = {
    "home": "?source=digits",
    "runs": "runs",
    "run": "runs/digits",
    "pair": "pair?a=digits&b=digits-vae",
    "generate": "generate/digits",
    "gallery": "gallery",
    "lab-forward": "lab/forward",
    "lab-score": "lab/score",
    "lab-readings": "lab/readings",
    "lab-gan": "lab/gan",
    "lab-vae": "lab/vae",
    "lab-guidance": "lab/guidance",
    "lab-latent": "lab/latent",
    "theory": "theory/gan.vanishing-gradient",
}


class Studio:
    """`ancestral studio` as a process in an empty folder."""

    def __init__(self, home: Path):
        self.home = home
        command = [sys.executable, "-m", "ancestral", "studio", str(home), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self.root = self.address.partition("?")[0]

    def go(self, page: Page, place: str) -> None:
        page.goto(f"{self.root}#/{place}")


@contextmanager
def studio() -> Iterator[Studio]:
    with tempfile.TemporaryDirectory() as folder:
        found = Studio(Path(folder))
        try:
            yield found
        finally:
            found.process.terminate()
            found.process.communicate()  # closes the pipe too


def a_zip(n: int = 600) -> bytes:
    """Return a zip of digits, whose sub-folders are the classes."""
    data, content = load("digits"), io.BytesIO()
    labels = data.labels()
    assert labels is not None
    with zipfile.ZipFile(content, "w") as archive:
        for i, image in enumerate(to_uint8(data.x(), data.spec)[:n]):
            picture = io.BytesIO()
            Image.fromarray(image[..., 0]).save(picture, "PNG")
            archive.writestr(f"digits/{int(labels[i])}/{i}.png", picture.getvalue())
    return content.getvalue()


def walk(page: Page, content: bytes) -> tuple[int, float]:
    """Make the walk from a zip to a picture that is saved with its settings. Returns the clicks and the seconds."""
    begun, clicks = time.monotonic(), 0

    def click(role: str, name: str) -> None:
        nonlocal clicks
        page.locator("#main").get_by_role(role, name=name, exact=True).click(timeout=LONG)  # type: ignore[arg-type]
        clicks += 1

    with page.expect_file_chooser() as chooser:
        click("button", "Choose a file")
    chooser.value.set_files([{"name": "digits.zip", "mimeType": "application/zip", "buffer": content}])
    clicks += 1  # the choice in the window of the system
    expect(page.get_by_text("What was understood of")).to_be_visible(timeout=60_000)
    page.get_by_label("Training time").fill("0")
    clicks += 1
    click("button", "Start training")
    expect(page.get_by_text("finished", exact=True)).to_be_visible(timeout=LONG)
    click("link", "Generate")
    click("button", "Generate")
    expect(page.get_by_role("link", name="Save PNG")).to_be_visible(timeout=60_000)
    with page.expect_download() as download:
        click("link", "Save PNG")
    with Image.open(download.value.path()) as picture:
        assert "ancestral" in picture.text  # type: ignore[attr-defined]
    return clicks, time.monotonic() - begun


def walks(browser: Browser, n: int) -> dict[str, object]:
    content, results = a_zip(), []
    with studio() as server:
        for _ in range(n):
            page = browser.new_page(accept_downloads=True)
            page.goto(server.address)
            page.get_by_role("link", name="Home", exact=True).wait_for()
            results.append(walk(page, content))
            print(f"walk: {results[-1][0]} clicks, {results[-1][1]:.0f} s", flush=True)
            page.close()
    return {
        "walks": len(results),
        "clicks": max(c for c, _ in results),
        "longest_seconds": round(max(s for _, s in results), 1),
    }


def answers(browser: Browser) -> dict[str, object]:
    """Measure the page while a training of two threads runs."""
    with studio() as server:
        train = [
            sys.executable,
            "-m",
            "ancestral",
            "train",
            "digits",
            "--for",
            "90s",
            "--out",
            str(server.home / "digits"),
            "-q",
        ]
        training = subprocess.Popen(train, env=os.environ | {"OMP_NUM_THREADS": "2"})
        while not list((server.home / "digits" / "samples").glob("*.png")):
            time.sleep(0.5)
        page = browser.new_page()
        page.goto(server.address)
        page.get_by_role("link", name="Home", exact=True).wait_for()
        paints = []
        for _ in range(5):
            page.reload()
            page.get_by_role("heading", level=1).wait_for()
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.evaluate(MEASURE)
        for _ in range(3):
            for name in ("Runs", "Gallery", "Lab", "Home"):
                page.get_by_role("link", name=name, exact=True).click()
                page.wait_for_timeout(400)
        server.go(page, "runs/digits")
        slider = page.get_by_label("Time of the preview")
        slider.wait_for()
        for _ in range(4):
            slider.press("ArrowLeft")
            page.wait_for_timeout(150)
        page.get_by_label("Show the nearest training sample").check()
        server.go(page, "lab/score")
        level = page.get_by_label("Noise level u = σ/α", exact=True)
        level.wait_for()
        for _ in range(10):
            level.press("ArrowRight")
            page.wait_for_timeout(100)
        page.wait_for_timeout(500)
        assert training.poll() is None, "the training ended too early"
        found = page.evaluate("window.found")
        training.terminate()
        training.wait()
        page.close()
    return {
        "first_paint_ms": round(sorted(paints)[len(paints) // 2]),
        "layout_shift": round(found["shift"], 4),
        "interactions": found["events"],
        "longest_interaction_ms": found["longest"],
    }


def shots(browser: Browser, folder: Path) -> None:
    """Train two small models, and draw every screen in both themes."""
    folder.mkdir(parents=True, exist_ok=True)
    with studio() as server:
        for family in ("diffusion", "vae"):
            print(f"training {family}", flush=True)
            out = server.home / ("digits" if family == "diffusion" else "digits-vae")
            train = ["train", "digits", "--model", family, "--for", "90s", "--condition", "class", "--out", str(out), "-q"]
            subprocess.run([sys.executable, "-m", "ancestral", *train], check=True)
        subprocess.run([sys.executable, "-m", "ancestral", "tune", str(server.home / "digits"), "-q"], check=True)
        for theme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 1200, "height": 820}, color_scheme=theme)  # type: ignore[arg-type]
            page.goto(server.address)
            page.get_by_role("link", name="Home", exact=True).wait_for()
            for name, place in SCREENS.items():
                page.evaluate("document.querySelector('main').replaceChildren()")  # nothing of the screen before is read
                server.go(page, place)
                page.locator("main h1:not(.wait)").wait_for()
                _prepare(page, name)
                if name != "theory":
                    page.evaluate("window.scrollTo(0, 0)")
                page.wait_for_timeout(300)
                if name in ("home", "generate"):  # the whole page, without parts that stick to the window's edge on the way
                    height = page.evaluate("document.documentElement.scrollHeight")
                    page.set_viewport_size({"width": 1200, "height": height})
                page.screenshot(path=folder / f"studio-{name}-{theme}.png")
                page.set_viewport_size({"width": 1200, "height": 820})
            page.close()
    for file in set(folder.glob("studio-*.png")) - set(folder.glob("studio-lab-*.png")):  # few colours, but for the lab
        with Image.open(file) as picture:
            picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(file, optimize=True)


def _prepare(page: Page, name: str) -> None:
    """Bring a screen into a state that shows what it is for."""
    if name == "home":
        expect(page.get_by_text("Measured on this machine")).to_be_visible(timeout=60_000)
    elif name == "run":
        page.get_by_label("Show the nearest training sample").check()
        expect(page.get_by_text("nearer to the training set")).to_be_visible(timeout=60_000)
    elif name == "generate":
        for digit in "037":
            page.get_by_role("button", name=digit, exact=True).click()
        page.get_by_role("button", name="Generate", exact=True).click()
        expect(page.get_by_role("link", name="Save PNG")).to_be_visible(timeout=60_000)
    elif name in ("lab-readings", "lab-gan", "lab-vae", "lab-latent"):
        expect(page.get_by_text("Done.")).to_be_visible(timeout=LONG)
        page.wait_for_timeout(4000 if name == "lab-latent" else 300)
    elif name == "lab-forward":
        page.get_by_label("Time t", exact=True).fill("0.25")
    elif name == "theory":
        claim = page.locator("section[id='gan.vanishing-gradient']")
        claim.get_by_role("button", name="Verify now").click()
        claim.locator("img.drawn").wait_for()
        claim.scroll_into_view_if_needed()
    elif name == "lab-score":
        page.locator("[data-run]").click()
        page.wait_for_timeout(2500)
    elif name == "lab-guidance":
        page.get_by_label("Scale of guidance w", exact=True).fill("4")
        page.wait_for_timeout(9000)
    page.wait_for_timeout(1200)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--walks", type=int, default=0, metavar="N")
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--shots", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    results: dict[str, object] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        if options.answers:
            results |= answers(browser)
        if options.walks:
            results |= walks(browser, options.walks)
        if options.shots:
            shots(browser, options.shots)
        browser.close()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
