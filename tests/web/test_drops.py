"""Files that are dragged onto the page: what each kind becomes on Home and on other pages, and what is said of the rest."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect

pytestmark = pytest.mark.slow


@pytest.fixture
def drag(page):
    """Drag files of this machine onto the page, as a person does. Returns the function that lets them fall."""
    session = page.context.new_cdp_session(page)

    def dragged(*paths):
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        where = {"x": 600, "y": 300, "data": data}
        for kind in ("dragEnter", "dragOver"):
            session.send("Input.dispatchDragEvent", {"type": kind, **where})
        return lambda: session.send("Input.dispatchDragEvent", {"type": "drop", **where})

    return dragged


def a_picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(seed).randint(0, 256, (16, 16), np.uint8)).save(path)


def a_folder(home):
    for i in range(24):
        a_picture(home / "shapes" / ("round" if i % 2 else "flat") / f"{i}.png", i)
    (home / "shapes" / ".DS_Store").write_bytes(b"hidden")
    return [home / "shapes"]


def several_files(home):
    for i in range(24):
        a_picture(home / f"{i}.png", i)
    return sorted(home.glob("*.png"))


def an_array(home):
    np.save(home / "waves.npy", np.random.RandomState(0).randint(0, 256, (40, 12, 10)).astype(np.uint8))
    return [home / "waves.npy"]


def a_table(home):
    rows = np.random.RandomState(0).normal(size=(50, 3))
    np.savetxt(home / "wells.csv", rows, delimiter=",", header="depth,flow,heat", comments="")
    return [home / "wells.csv"]


DROPS = {
    "zip": (None, "noise", "16 × 16 pixels, 1 channel", "<img src=x onerror=alert(1)> ("),
    "folder": (a_folder, "shapes", "16 × 16 pixels, 1 channel", "flat (11), round (11)"),
    "files": (several_files, "", "16 × 16 pixels, 1 channel", ""),
    "array": (an_array, "waves", "10 × 12 pixels, 1 channel", ""),
    "table": (a_table, "wells", "3 numbers", "depth, flow, heat"),
}


@pytest.mark.parametrize(
    "kind", ["zip", "folder", *(pytest.param(k, marks=pytest.mark.long) for k in ("files", "array", "table"))]
)
def test_what_is_dropped_is_understood(page, drag, noise, tmp_path, kind):
    make, name, shape, said = DROPS[kind]
    (tmp_path / "noise.zip").write_bytes(noise)
    fall = drag(*make(tmp_path) if make else [tmp_path / "noise.zip"])
    expect(page.locator(".drop.over")).to_be_visible()
    fall()
    expect(page.locator(".drop.over")).to_have_count(0)
    expect(page.get_by_role("heading", name=f"What was understood of {name}")).to_be_focused()
    expect(page.locator("dd", has_text=shape).first).to_be_visible()
    expect(page.get_by_text(said).first).to_be_visible()
    expect(page.locator(".shown :is(canvas, img)").first).to_be_visible()
    assert not page.locator("img[src=x]").count()


def test_data_that_are_dropped_on_another_page_come_to_home(page, go, drag, tmp_path):
    go("gallery")
    drag(*an_array(tmp_path))()
    expect(page.get_by_role("heading", name="What was understood of waves")).to_be_focused()
    expect(page.get_by_role("link", name="Home", exact=True)).to_have_attribute("aria-current", "page")


def test_what_is_no_data_is_said(page, drag, tmp_path):
    (tmp_path / "empty").mkdir()
    drag(tmp_path / "empty")()
    expect(page.get_by_text("There are no files in what was dropped.")).to_be_visible()
    (tmp_path / "letter.txt").write_text("Dear reader")
    drag(tmp_path / "letter.txt")()
    expect(page.get_by_role("alert")).to_contain_text("the upload")
    a_picture(tmp_path / "holiday.png", 0)
    drag(tmp_path / "holiday.png")()
    expect(page.locator(".toast.bad").last).to_contain_text("picture")
