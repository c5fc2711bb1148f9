"""Commands that pages start: the queue with its order and settings, longer trainings, fine-tuning, tuning, and reports."""

import re
import shutil

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect

pytestmark = [pytest.mark.slow, pytest.mark.long]  # beside test_api.py, without a browser


@pytest.fixture
def begin(page, go):
    """Start the training of a VAE of points. Returns when it trains or waits."""

    def started(name, minutes=None):
        go("?source=rings")
        page.get_by_role("radio", name="VAE").click()
        if minutes is not None:
            page.get_by_label("Training time").fill(str(minutes))
        page.get_by_label("Name of the run").fill(name)
        page.get_by_role("button", name="Start training").click()
        expect(page.locator(".badge").first).to_be_visible()

    return started


@pytest.fixture
def queue(page):
    """The commands in the queue, in the order of the page."""
    return page.get_by_role("region", name="Queue")


def test_commands_wait_in_order_with_the_settings_of_their_request(page, go, begin, queue, state, server):
    shutil.copytree(server.home / "digits", server.home / "copied")
    begin("first")
    state("training")
    begin("second", minutes=3)  # the third from the left: 2 minutes
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()

    go("runs/copied")
    page.get_by_role("button", name="Train longer").click()
    length = page.get_by_label("New total length")
    expect(length).to_be_focused()
    expect(length).to_have_value("120it")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Train longer")).to_be_focused()
    page.keyboard.press("Enter")
    length.fill("for ever")
    page.keyboard.press("Enter")
    expect(length).to_be_visible()  # it is no length
    length.fill("64it")
    page.keyboard.press("Enter")
    state("waiting")

    go("runs/digits")
    page.get_by_role("button", name="Fine-tune").click()
    page.get_by_label("Training time").fill("4it")
    page.get_by_label("Name of the new run").fill("finer")
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    go("runs/text")
    page.get_by_role("button", name="Tune the sampler").click()
    expect(page.get_by_text("The tuning is in the queue")).to_be_visible()

    go("runs")
    commands = ["Training first", "Training second", "Training copied", "Training finer", "Tuning of text"]
    expect(queue.locator("b")).to_have_text(commands)
    expect(queue.locator(".badge")).to_have_text(["training", *["waiting"] * 4])
    for k, words in enumerate(("--model vae", "--for 5m", "--for 64it", f"--from {server.home / 'digits'}", "ancestral tune")):
        queue.locator("summary").nth(k).click()
        expect(queue.locator("pre").nth(k)).to_contain_text(words)

    queue.get_by_role("button", name="Remove").nth(3).click()  # the tuning
    expect(queue.locator("b")).to_have_text(commands[:4])
    queue.get_by_role("button", name="Remove").first.click()
    expect(queue.locator("b")).to_have_text(["Training first", "Training copied", "Training finer"])
    queue.get_by_role("button", name="Stop").click()
    expect(queue.locator("b").first).to_have_text("Training copied")
    go("runs/finer")
    state("finished")
    expect(page.get_by_text("4 steps in ")).to_be_visible()
    go("runs/copied")
    state("finished")
    expect(page.get_by_text("64 steps in ")).to_be_visible()
    assert not (server.home / "second").exists()


def test_reports_and_comparisons_are_pages(page, go, begin, state, examine, queue, server):
    go("report?run=digits")
    expect(page.get_by_role("alert")).to_contain_text("digits has no report yet")
    begin("measured")
    state("training")
    expect(page.get_by_text(" steps in ")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    state("stopped")
    page.get_by_role("button", name="Make the report").click()
    page.get_by_role("link", name="Report", exact=True).click()
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", level=1)).to_have_text("vae of rings")
    paper = "getComputedStyle(document.body).backgroundColor"
    expect(report.locator(".answer")).to_contain_text(re.compile("^measured: "))
    light = page.frames[1].evaluate(paper)
    examine(page, "light-1280-report")
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.frames[1].evaluate(paper) != light
    expect(report.locator("img.drawn").first).to_have_css("mix-blend-mode", "screen")
    examine(page, "dark-1280-report")
    page.set_viewport_size({"width": 380, "height": 800})
    examine(page, "dark-380-report")
    page.set_viewport_size({"width": 1280, "height": 900})
    alone = page.context.new_page()  # no script runs in the frame, and thus no axe
    for scheme, width in (("light", 1280), ("dark", 380)):
        alone.set_viewport_size({"width": width, "height": 900})
        alone.emulate_media(color_scheme=scheme)
        alone.goto(f"http://127.0.0.1:{server.port}/api/runs/measured/report")
        examine(alone, f"{scheme}-{width}-report-alone")
    alone.close()

    go("runs")
    expect(page.get_by_role("button", name="Show side by side")).to_be_disabled()
    for name in ("digits", "measured"):
        page.get_by_label(f"Choose {name} for a comparison").check()
    page.get_by_role("button", name="Compare in a report").click()
    expect(queue.locator("b")).to_have_text(["Comparison compare-digits-measured"])
    expect(queue.locator("p").get_by_text("these runs are of different data (digits: digits; measured: rings)")).to_be_visible()
    shutil.copytree(server.home / "measured", server.home / "compare-<b>both", ignore=lambda *_: ["recipe.yaml", "model"])
    page.get_by_role("link", name="compare-<b>both").click()
    expect(page.get_by_role("heading", name="compare-<b>both")).to_be_visible()
    expect(report.get_by_role("heading", level=1)).to_have_text("vae of rings")
    page.get_by_role("link", name="All runs").click()
    for name in ("digits", "measured"):
        page.get_by_label(f"Choose {name} for a comparison").check()
    page.get_by_role("button", name="Show side by side").click()
    expect(page.get_by_role("heading", name="Two runs side by side")).to_be_visible()
