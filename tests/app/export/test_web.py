"""An exported GAN in the browser: the page draws what ONNX Runtime draws here, from the same noise."""

import functools
import http.server
import shutil
import subprocess
import threading

import numpy as np
import pytest
import torch

import ancestral as an
from ancestral.app.export import web, write
from ancestral.conditioning import ClassCondition, Conditioner
from ancestral.errors import AncestralError, UsageError
from ancestral.runner import Exported

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def gan(shape=(3, 8, 8)):
    conditioner = Conditioner({"class": ClassCondition(("cat", "dog"), 8)})
    networks = (
        an.networks.Generator(shape, (8, 8), latent=4, context=conditioner.widths),
        an.networks.Discriminator(shape, (8, 8)),
    )
    torch.manual_seed(1)
    model = an.GAN(*networks, shape, mean=0.5, std=0.5, bounds=(0, 1), conditioner=conditioner)
    with torch.no_grad():
        for p in model.generator.parameters():
            p.add_(0.2 * torch.randn(p.shape))
    return model.eval()


def stand_in(folder):
    """A folder with the names of the package's files."""
    folder.mkdir(parents=True)
    for name in web.NEEDED:
        (folder / name).write_text(name)
    return folder


def test_the_page_and_the_runtime_are_in_the_folder(tmp_path):
    done = an.export(gan(), "web", tmp_path / "page", runtime=stand_in(tmp_path / "package" / "dist").parent)
    assert {file.name for file in (tmp_path / "page" / "ort").iterdir()} == set(web.NEEDED)
    assert {"index.html", "page.js", "style.css", "sampler.onnx", "config.json"} <= {f.name for f in done.folder.iterdir()}
    assert Exported(done.folder).sample(2, **{"class": "dog"}).shape == (2, 3, 8, 8)


def test_wrong_requests_are_one_sentence(tmp_path, monkeypatch, command):
    points = an.GAN(an.networks.VectorGenerator(2, latent=4), an.networks.VectorDiscriminator(2), (2,))
    exported = []
    monkeypatch.setattr(write, "_graphs", lambda *args: exported.append(args))
    for model, how, words in (
        (points, {}, "the page shows pictures"),
        (gan(), {"what": "network"}, "a web page runs a whole sampler"),
        (gan(), {"runtime": tmp_path}, "is not the package onnxruntime-web: it has no ort.wasm.min.mjs"),
    ):
        with pytest.raises(UsageError, match=words):
            an.export(model, "web", tmp_path / "page", **how)
    gan().save(tmp_path / "m")
    done = command("export", tmp_path / "m", "--to", "pt2", "--runtime", tmp_path)
    assert done.returncode == 2
    assert "--runtime is the folder of onnxruntime-web" in " ".join(done.stderr.split())
    monkeypatch.setattr(web.shutil, "which", lambda name: None)
    with pytest.raises(AncestralError, match="there is no npm to fetch it: give its folder with `runtime`"):
        an.export(gan(), "web", tmp_path / "page")
    monkeypatch.setattr(web.shutil, "which", lambda name: name)
    failed = subprocess.CompletedProcess([], 1, "", "npm ERR! network\nmore")
    monkeypatch.setattr(web.subprocess, "run", lambda *args, **how: failed)
    with pytest.raises(AncestralError, match=r"npm could not fetch onnxruntime-web \(npm ERR! network\)"):
        an.export(gan(), "web", tmp_path / "page")
    assert not (tmp_path / "page").exists()
    assert not exported  # what is missing is said before the work


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """The package of the browser's runtime, which npm fetches."""
    if CHROMIUM is None or shutil.which("npm") is None:
        pytest.skip("there is no chromium or no npm on this machine")
    try:
        return web._fetched(tmp_path_factory.mktemp("npm"))
    except AncestralError as error:
        pytest.skip(str(error))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.mark.long
@pytest.mark.slow
def test_the_browser_draws_the_same_samples(runtime, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    an.export(gan(), "web", tmp_path / "page", runtime=runtime)
    exported = Exported(tmp_path / "page")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "page"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    try:
        with sync_api.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
            page = browser.new_page()
            faults, hosts = [], set()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
            page.on("request", lambda request: hosts.add(request.url.split("/")[2] if request.url.startswith("http") else ""))
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            sync_api.expect(page.locator("#status")).to_contain_text("16 samples in", timeout=60_000)
            z = exported.noise([3, 4, 5])
            for given, chosen in (({}, {}), ({"class": [1]}, {"class": "dog"})):
                theirs = page.evaluate(
                    """async ([z, given]) => {
                        const values = Object.fromEntries(Object.entries(given).map(([name, v]) => [name, v.map(BigInt)]));
                        return Array.from(await model.draw([Float32Array.from(z)], values, 3));
                    }""",
                    [z[0].ravel().tolist(), given],
                )
                expected = exported.draw([3, 4, 5], exported.inputs(3, exported.raw(3, chosen)))
                np.testing.assert_allclose(np.array(theirs).reshape(3, 3, 8, 8), expected, atol=1e-5)
            numbers = page.evaluate("async () => Array.from((await import('./page.js')).noise(model.config, 5, 0, 5000)[0])")
            numbers = np.array(numbers).reshape(5000, 4)  # its own noise is normal, and of one sample whatever their number
            assert np.abs(numbers.mean(0)).max() < 0.06
            assert np.abs(np.corrcoef(numbers.T) - np.eye(4)).max() < 0.06
            assert numbers.std() == pytest.approx(1, abs=0.02)
            assert (np.abs(numbers) > 1.96).mean() == pytest.approx(0.05, abs=0.01)
            one = page.evaluate("async () => Array.from((await import('./page.js')).noise(model.config, 5, 7, 1)[0])")
            np.testing.assert_array_equal(one, numbers[7])
            before = page.locator("#picture").screenshot()
            page.get_by_label("class").select_option("dog")
            page.get_by_label("number").fill("20")
            page.get_by_role("button", name="draw").click()
            sync_api.expect(page.locator("#status")).to_contain_text("20 samples in", timeout=60_000)
            assert page.evaluate("[document.getElementById('picture').width, document.getElementById('picture').height]") == [
                40,
                32,
            ]
            assert page.locator("#picture").screenshot() != before
            assert (faults, hosts) == ([], {f"127.0.0.1:{server.server_port}"})
            page.screenshot(path=tmp_path / "page.png")
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
