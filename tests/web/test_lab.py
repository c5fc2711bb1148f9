"""Each screen of the lab in a browser: what moves in its pictures, its numbers, and the claims of the theory that it shows."""

import re

import numpy as np
import pytest

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import expect

pytestmark = pytest.mark.slow
SCREENS = ["forward", "score", "readings", "gan", "vae", "guidance", "latent"]


@pytest.fixture
def number(page):
    """The number of a readout, or the first number in the text that an element shows."""

    def read(label):
        text = page.locator(".readouts > div, .row > div").filter(has=page.get_by_text(label, exact=True)).locator(".readout")
        return float(re.search(r"-?[\d.]+", text.first.inner_text())[0])

    return read


def colours(image):
    """The number of different colours."""
    return len(np.unique(image.reshape(-1, 4), axis=0))


def inked(image):
    """The number of pixels that a curve has in its colour."""
    return int((image[..., :3] == (0, 114, 178)).all(-1).sum())


def canvas(page, label):
    return page.locator(f"canvas[aria-label='{label}']")


def done(page):
    expect(page.get_by_text("Done.")).to_be_visible()


def step(page):
    """The step of the training, 0 before the first."""
    found = re.search(r"tep ([\d,]+) of", page.locator("main [role=status]").first.inner_text())
    return int(found[1].replace(",", "")) if found else 0


def test_the_forward_process_ends_in_noise(page, go, pixels, until, number):
    go("lab/forward")
    plane = canvas(page, "The data at time t")
    until(lambda: colours(pixels(plane)) > 2)
    data, far = pixels(plane), number("distance to N(0, I)")
    page.get_by_label("Time t", exact=True).fill("1")
    until(lambda: not np.array_equal(pixels(plane), data))
    assert number("distance to N(0, I)") < 0.01 < far
    page.get_by_label("Data", exact=True).select_option("digits")
    digits = canvas(page, "Digits at time t")
    expect(digits).to_be_visible()
    noise = pixels(digits)
    page.get_by_label("Time t", exact=True).fill("0")
    until(lambda: not np.array_equal(pixels(digits), noise))
    page.locator("[data-run]").click()  # runs from the data to noise
    until(lambda: number("t") == 1)


def test_paths_start_in_the_score_field_of_drawn_points(page, go, pixels, until):
    go("lab/score")
    field = page.locator(".plane.click canvas").last
    until(lambda: colours(pixels(field)) > 20)
    moons = pixels(field)
    page.get_by_label("Data", exact=True).select_option("draw your own")
    own = canvas(page, "Canvas for your own points")
    for x, y in ((60, 60), (120, 60), (90, 120), (150, 150)):
        own.click(position={"x": x, "y": y})
    expect(page.get_by_text("4 points.")).to_be_visible()
    until(lambda: not np.array_equal(pixels(field), moons))
    drawn = pixels(field)
    field.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    until(lambda: not np.array_equal(pixels(field), drawn))
    low = pixels(field)
    page.get_by_label("Noise level u = σ/α", exact=True).fill("1")
    until(lambda: not np.array_equal(pixels(field), low))
    expect(page.locator(".readout").first).to_have_text("2.7")


@pytest.mark.long
def test_one_network_is_read_in_four_ways(page, go, pixels, until):
    """All four readings come nearer to the exact ones, and another target is another training."""
    go("lab/readings")
    planes = {name: canvas(page, f"The reading {name}") for name in ("eps", "x", "score", "v")}
    errors = page.get_by_text("relative error")
    until(lambda: step(page))
    first = [float(re.search(r"\d+", text)[0]) for text in errors.all_inner_texts()]
    done(page)
    last = [float(re.search(r"\d+", text)[0]) for text in errors.all_inner_texts()]
    assert all(b < a for a, b in zip(first, last, strict=True))
    before = {name: pixels(plane) for name, plane in planes.items()}
    assert all(colours(image) > 2 for image in before.values())
    page.get_by_label("Time t", exact=True).fill("0.9")
    until(lambda: all(not np.array_equal(pixels(plane), before[name]) for name, plane in planes.items()))
    page.get_by_label("The network learns").select_option("x")
    until(lambda: 0 < step(page) < 300)


@pytest.mark.long
def test_a_critic_is_a_landscape_that_moves_samples(page, go, pixels, until, number):
    go("lab/gan")
    plane, chart = canvas(page, "The critic as a landscape, with samples"), canvas(page, "Mean length of both gradients")
    until(lambda: step(page))
    first, short = pixels(plane), inked(pixels(chart))
    done(page)
    last = pixels(plane)
    assert (first != last).any(-1).mean() > 0.2, "the landscape covers the plane"
    assert inked(pixels(chart)) > short
    assert 0 < number("mean D of the samples") < 1
    assert number("minimax") > 0
    page.get_by_role("button", name="minimax", exact=True).click()  # other arrows on the same landscape
    until(lambda: 0 < (pixels(plane) != last).any(-1).mean() < 0.2)
    page.get_by_label("Critic updates", exact=True).fill("5")
    until(lambda: 0 < step(page) < 600)


@pytest.mark.long
def test_the_latent_plane_of_a_vae_is_walked(page, go, pixels, until, number):
    go("lab/vae")
    plane, one = page.locator(".plane.click canvas"), canvas(page, "The digit at this point")
    until(lambda: step(page))
    poor, early = number("ELBO"), pixels(canvas(page, "Digits on a grid of the latent plane"))
    done(page)
    assert number("ELBO") > poor
    assert number("ELBO") == pytest.approx(number("reconstruction") - number("KL"), abs=0.2)
    assert (pixels(canvas(page, "Digits on a grid of the latent plane")) != early).any(-1).mean() > 0.3
    middle = pixels(one)
    plane.hover(position={"x": 20, "y": 20})
    until(lambda: not np.array_equal(pixels(one), middle))
    corner = page.get_by_text(re.compile(r"^\(-?\d"))
    place = corner.inner_text()
    plane.focus()
    page.keyboard.press("ArrowRight")
    until(lambda: corner.inner_text() != place)
    page.get_by_label("β, the weight of the KL in the loss", exact=True).fill("8")
    until(lambda: 0 < step(page) < 400)


@pytest.mark.long
def test_guidance_is_turned_up_until_variety_is_lost(page, go, pixels, until, number):
    go("lab/guidance")
    plane = canvas(page, "Samples of a class with guidance")
    until(lambda: colours(pixels(plane)) > 2)
    before, variety = pixels(plane), number("variety")
    page.get_by_label("Scale of guidance w", exact=True).fill("10")
    until(lambda: number("w") == 10)
    until(lambda: number("variety") < 0.6 * variety)
    assert (pixels(plane) != before).any()
    page.get_by_label("Class", exact=True).select_option("second half")
    strong = pixels(plane)
    until(lambda: not np.array_equal(pixels(plane), strong))
    chart = canvas(page, "Variety against the scale")
    until(lambda: inked(pixels(chart)) > 300)


@pytest.mark.long
def test_latent_diffusion_is_two_maps(page, go, pixels, until):
    go("lab/latent")
    first, second = canvas(page, "The first map: digits to latents"), canvas(page, "The second map: noise to latents")
    until(lambda: step(page))
    scattered = pixels(first)
    expect(page.get_by_text("Stage 2")).to_be_visible()
    assert (pixels(first) != scattered).any(), "the autoencoder moved the latents"
    expect(page.get_by_text("Both maps are learned")).to_be_visible()
    slider, decoded = page.get_by_label("From noise to latents", exact=True), canvas(page, "Decoded digits")
    until(lambda: slider.input_value() == "24")  # the paths have been played
    digits, paths = pixels(decoded), pixels(second)
    slider.fill("0")
    until(lambda: not np.array_equal(pixels(decoded), digits))
    assert not np.array_equal(pixels(second), paths)


@pytest.mark.parametrize("screen", [s if s in ("forward", "gan") else pytest.param(s, marks=pytest.mark.long) for s in SCREENS])
def test_a_screen_leads_to_its_claims_and_to_the_theory(page, go, screen):
    go(f"lab/{screen}")
    theory = page.get_by_role("region", name="Theory")
    claims = theory.locator("details")
    assert claims.count() >= 2
    link = theory.get_by_role("link").first
    name, title = link.inner_text(), claims.first.locator("summary").inner_text()
    claims.first.locator("summary").click()
    expect(claims.first.get_by_text(f"ancestral verify {name}", exact=True)).to_be_visible()
    link.click()
    place = page.locator(f"section[id='{name}']")
    expect(place).to_be_in_viewport()
    expect(place.get_by_role("heading", name=title)).to_be_focused()


def test_a_claim_is_verified_on_the_page(page, go):
    go("theory/score.tweedie")
    claim = page.locator("section[id='score.tweedie']")
    claim.get_by_role("button", name="Verify now").click()
    expect(claim.get_by_text("It holds")).to_be_visible()
    expect(claim.get_by_role("cell", name="holds").first).to_be_visible()
    page.get_by_role("link", name="latent diffusion").click()
    expect(page.get_by_role("heading", name="Theory: latent diffusion")).to_be_visible()


@pytest.mark.long
def test_a_lecture_needs_only_the_keyboard(page, go):
    go("lab/forward?show")
    expect(page.get_by_role("heading", name="The forward process")).to_be_visible()
    assert not page.locator("header.bar").is_visible()
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="The score field")).to_be_visible()
    page.keyboard.press("6")
    expect(page.get_by_role("heading", name="Guidance against variety")).to_be_visible()
    page.keyboard.press("p")
    expect(page.get_by_role("heading", name="A latent plane to walk in")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("header.bar")).to_be_visible()
