"""The API of the studio: what it shows of runs, what it draws, what it refuses."""

import base64
import errno
import io
import json
import os
import shutil
import time
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from ancestral.app.cli import main
from ancestral.app.estimate import estimate
from ancestral.app.lock import birth
from ancestral.app.sampling.provenance import read
from ancestral.app.web import Studio, create_app, uploads
from ancestral.app.web.queue import Job, Queue
from ancestral.app.web.render import pixels_of
from ancestral.app.web.samples import _scale


def events(response):
    """(name, values) of a stream of events."""
    assert response.status_code == 200, response.text
    blocks = [block.splitlines() for block in response.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def drawn(client, request, **arrangement):
    found = events(client.post("/api/runs/digits/samples", json={"request": request, "arrangement": arrangement}))
    assert found[-1][0] == "done", found[-1]
    return found


def test_runs_are_listed_and_described(client):
    (run,) = client.get("/api/runs").json()
    assert (run["id"], run["family"], run["state"], run["progress"]) == ("digits", "diffusion", "finished", 1.0)
    found = client.get("/api/runs/digits").json()
    assert found["previews"] == [30, 60]
    assert found["spec"]["shape"] == [1, 8, 8]
    assert any("60 steps" in sentence["text"] for sentence in found["health"])
    assert client.get("/api/runs/digits/metrics").json()[-1]["step"] == 60


def test_previews_have_their_nearest_training_samples(client, trained):
    preview = client.get("/api/runs/digits/previews/60").json()
    assert (preview["form"], preview["n"], preview["height"]) == ("pixels", 16, 8)
    with Image.open(io.BytesIO(base64.b64decode(preview["tiles"].partition(",")[2]))) as sheet:
        assert sheet.size == (8, 8 * 16)
    found = client.get("/api/runs/digits/previews/60/neighbours").json()
    assert len(found["distances"]) == 16
    assert found["copy_rate"] == sum(found["copies"]) / 16


def test_samples_come_as_events_and_the_png_draws_them_again(client, studio):
    request = {"n": 4, "seed": 3, "steps": 5, "conditions": {"classes": ["7"]}, "guidance": {"scale": 2.0}}
    found = drawn(client, request)
    assert found[0][0] == "begin"
    assert sum(name == "state" for name, _ in found) >= 1
    done = found[-1][1]
    content = client.get(done["png"]).content
    record = read(content, studio.pictures)
    assert (record.request.seed, record.request.steps, record.request.conditions.classes) == (3, 5, ("7",))
    restored = client.post("/api/restore", content=content).json()
    assert (restored["run"], restored["exact"], restored["pixels"]) == ("digits", True, done["pixels"])
    again = drawn(client, restored["request"], **restored["arrangement"])[-1][1]
    assert again["pixels"] == done["pixels"]
    other = drawn(client, restored["request"] | {"seed": 4})[-1][1]
    assert other["pixels"] != done["pixels"]


def test_an_inpainting_is_drawn_again_from_its_png(client, studio):
    def png(array):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        return {"file": base64.b64encode(buffer.getvalue()).decode()}

    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    edit = {"inpaint": png(np.arange(64, dtype=np.uint8).reshape(8, 8)), "mask": png(mask)}
    done = drawn(client, {"n": 2, "steps": 4, "edit": edit})[-1][1]
    restored = client.post("/api/restore", content=client.get(done["png"]).content).json()
    assert restored["request"]["edit"] == edit
    assert drawn(client, restored["request"])[-1][1]["pixels"] == done["pixels"]


def test_a_grid_has_a_cell_for_each_pair_of_values(client):
    across, down = {"name": "guidance", "values": [0, 1, 3]}, {"name": "class", "values": ["1", "2"]}
    found = drawn(client, {"steps": 3}, across=across, down=down)
    assert sum(name == "cell" for name, _ in found) == 6
    tiles = [values["samples"]["tiles"] for name, values in found if name == "cell"]
    assert tiles[0] == tiles[3]  # guidance 0 ignores the class
    assert tiles[2] != tiles[5]


def test_a_walk_begins_and_ends_with_the_samples_of_its_seeds(client):
    found = drawn(client, {}, walk=[1, 2], steps=3)[-1][1]
    assert found["samples"]["n"] == 3
    assert client.get(found["film"]).content[:3] == b"GIF"


def test_a_walk_of_the_studio_is_drawn_again_by_the_command(client, trained, tmp_path):
    done = drawn(client, {"conditions": {"classes": ["3"]}}, walk=[1, 2], steps=4)[-1][1]
    (tmp_path / "walk.png").write_bytes(client.get(done["png"]).content)
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "sample",
                str(trained / "digits"),
                "--like",
                str(tmp_path / "walk.png"),
                "--out",
                str(tmp_path / "again.png"),
                "-q",
            ]
        )
    assert ended.value.code == 0
    with Image.open(tmp_path / "again.png") as again:
        assert pixels_of(again) == done["pixels"]


@pytest.mark.parametrize(
    ("arrangement", "said"),
    [
        ({"walk": [1]}, "at least two seeds"),
        ({"walk": ["x", 2]}, "whole numbers"),
        ({"walk": list(range(9))}, "at most 8 seeds"),
    ],
)
def test_a_wrong_walk_gets_a_sentence(client, arrangement, said):
    found = events(client.post("/api/runs/digits/samples", json={"request": {}, "arrangement": arrangement}))
    assert said in found[-1][1]["error"]


def test_the_ends_of_a_slider_are_round_numbers():
    assert _scale(7.89, 3.2) == {"low": 1.4, "high": 14.2, "step": 0.2, "mean": 7.8}
    for mean, std in ((4, 1.15), (1e6, 3e4), (0.001, 0.0002), (5, 0)):
        found = _scale(mean, std)
        assert 40 <= (found["high"] - found["low"]) / found["step"] <= 101
        assert found["low"] < mean < found["high"]


def test_a_training_that_waits_is_estimated_as_if_it_were_alone(client, studio, monkeypatch):
    wanted = {"source": "moons", "family": "vae", "budget": "10s"}
    assert client.post("/api/estimates", json=wanted).json()["waits"] is False
    asked = []
    monkeypatch.setattr(Queue, "busy", True)
    monkeypatch.setattr(uploads, "estimate", lambda *args, alone: asked.append(alone) or estimate(*args, alone=alone))
    assert client.post("/api/estimates", json=wanted).json()["waits"] is True
    assert asked == [True]


def test_a_tuning_is_a_command_of_the_queue(client, studio, monkeypatch):
    monkeypatch.setattr(studio.queue, "_start", lambda job: None)
    assert client.post("/api/runs/digits/tune").json()["arguments"] == ["tune", "./digits"]
    assert studio.queue.jobs[-1].folder == str(studio.home)
    studio.queue.stop(studio.home / "digits")


def test_conditioning_images_are_shown_where_there_are_some(client, conditioned):
    assert "no conditioning images" in client.get("/api/runs/digits/data?column=image").json()["error"]
    with TestClient(create_app(Studio([conditioned], device="cpu")), base_url="http://127.0.0.1:1") as other:
        other.headers["authorization"] = f"Bearer {Studio([conditioned]).token}"
        samples, outlines = (other.get(f"/api/runs/image/data?n=3&column={column}").json() for column in ("x", "image"))
        assert samples["n"] == outlines["n"] == 3
        assert samples["tiles"] != outlines["tiles"]
        assert set(samples["captions"]) == {"a small disc", "a large disc"}


def test_the_gallery_keeps_favourites(client):
    done = drawn(client, {"n": 1, "steps": 2})[-1][1]
    assert client.post(f"/api/gallery/{done['id']}/favourite").json()["favourite"]
    assert next(item for item in client.get("/api/gallery").json() if item["id"] == done["id"])["favourite"]
    client.delete(f"/api/gallery/{done['id']}")
    assert client.get(done["png"]).status_code == 400


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"conditions": {"classes": ["nonsense"]}}, "nonsense"),
        ({"n": 10_000}, "at most 256"),
        ({"guidance": {"autoguide": "/etc"}}, "autoguide"),
        ({"conditions": {"layout": "/etc/passwd"}}, "not a request"),
        ({"edit": {"vary": "/etc/passwd"}}, "not a request"),
        ({"colour": "red"}, "not a request"),
        ({"steps": 0}, "at least 1 step"),
    ],
)
def test_a_request_that_is_wrong_gets_a_sentence(client, request_, said):
    response = client.post("/api/runs/digits/samples", json={"request": request_})
    text = response.json()["error"] if response.status_code != 200 else events(response)[-1][1]["error"]
    assert said in text


def test_only_those_with_the_token_are_answered(studio):
    with TestClient(create_app(studio, 8765), base_url="http://127.0.0.1:8765", follow_redirects=False) as client:
        assert client.get("/api/runs").status_code == 403
        assert client.get("/").status_code == 403
        assert client.get("/?token=wrong").status_code == 403
        entered = client.get(f"/?token={studio.token}")
        assert entered.status_code == 303
        assert "HttpOnly" in entered.headers["set-cookie"]
        assert client.get("/api/runs").status_code == 200  # the cookie
        assert client.get("/api/runs", headers={"host": "evil.example:8765"}).status_code == 403
        assert client.post("/api/restore", headers={"origin": "http://evil.example"}).status_code == 403
        assert "default-src 'self'" in client.get("/").headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/api/runs/..%2F..%2Fetc", "/api/gallery/..%2Fx.png", "/..%2F..%2Fpyproject.toml", "/%2e%2e/app.py"]
)
def test_paths_do_not_lead_out_of_the_folders(client, path):
    assert client.get(path).status_code in (400, 404)


def test_runs_behind_links_are_not_read(trained, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "link").symlink_to(trained, target_is_directory=True)
    assert Studio([tmp_path / "home"]).runs() == {}


def test_uploads_are_limited_and_stay_inside(studio):
    with TestClient(create_app(studio, upload_limit=1000), base_url="http://127.0.0.1:1") as client:
        client.headers["authorization"] = f"Bearer {studio.token}"
        upload = client.post("/api/uploads").json()["upload"]
        assert client.put(f"/api/uploads/{upload}/a.npy", content=b"x" * 1001).status_code == 413
        assert client.put(f"/api/uploads/{upload}/a.npy", content=iter([b"x" * 600] * 2)).status_code == 413
        for path in ("..%2Fa.npy", "%2Fetc%2Fa", "a%5Cb.npy"):
            assert client.put(f"/api/uploads/{upload}/{path}", content=b"x").status_code in (400, 404), path


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def pictures(n=12):
    def one(i):
        buffer = io.BytesIO()
        Image.fromarray(np.full((16, 16, 3), (20 * i, 90, 0), np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    return {f"pets/{'cat' if i % 2 else '<b>dog'}/{i}.png": one(i) for i in range(n)}


def test_a_zip_is_understood_and_a_training_is_planned(client):
    upload = client.post("/api/uploads").json()["upload"]
    client.put(f"/api/uploads/{upload}/pets.zip", content=zipped(pictures()))
    found = client.post("/api/data", json={"upload": upload, "size": "16"}).json()
    assert found["shape"] == [3, 16, 16]
    assert {c["name"] for c in found["classes"]} == {"cat", "<b>dog"}
    assert "class" in found["conditions"]
    buys = client.post("/api/estimates", json={"upload": upload, "size": "16", "family": "vae", "budget": "10s"}).json()
    assert buys["steps"] > 0
    assert buys["samples"] in ("noise", "rough", "clear")


def test_a_message_about_an_upload_does_not_name_its_folder(client, studio):
    upload = client.post("/api/uploads").json()["upload"]
    client.put(f"/api/uploads/{upload}/notes.txt", content=b"hello")
    said = client.post("/api/data", json={"upload": upload}).json()["error"]
    assert said.startswith("the upload holds no images (only notes.txt)")
    assert str(studio.home) not in said


def test_a_zip_that_leads_out_of_its_folder_is_refused(client, studio):
    upload = client.post("/api/uploads").json()["upload"]
    client.put(f"/api/uploads/{upload}/bad.zip", content=zipped({"../../outside.png": b"x"}))
    response = client.post("/api/data", json={"upload": upload})
    assert response.status_code == 400
    assert "not a path inside" in response.json()["error"]
    assert not list(studio.home.rglob("outside.png"))


@pytest.mark.long
def test_a_queue_survives_its_server(tmp_path):
    queue = Queue(tmp_path)
    out = tmp_path / "rings"
    arguments = ["train", "rings", "--for", "200000it", "--out", str(out), "model.width=8", "train.checkpoint_every=1"]
    job = queue.add(arguments, out)
    waiting = queue.add(["train", "moons", "--out", str(tmp_path / "moons")], tmp_path / "moons")
    assert (queue.state(job), queue.state(waiting)) == ("running", "waiting")
    returned = Queue(tmp_path)  # another server
    child = queue._children.pop(job.id)
    assert [returned.state(other) for other in returned.jobs] == ["running", "waiting"]
    returned.stop(tmp_path / "moons")
    wait_for((out / "metrics.jsonl").is_file)
    returned.stop(out)
    child.wait(timeout=60)
    returned.tick()
    assert [returned.state(other) for other in returned.jobs] == ["stopped", "stopped"]
    assert list((out / "checkpoints").glob("step-*"))


def test_a_full_disk_is_one_sentence(client, studio, monkeypatch):
    def full(path, contents):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ancestral.app.web.queue.write_atomically", full)
    monkeypatch.setattr(studio.queue, "tick", lambda: None)
    response = client.post("/api/runs/digits/tune")
    assert (response.status_code, response.json()["error"]) == (
        507,
        "a file cannot be written or read: no space left on device",
    )
    monkeypatch.setattr("pathlib.Path.open", full)
    upload = client.post("/api/uploads").json()["upload"]
    response = client.put(f"/api/uploads/{upload}/a.png", content=b"a")
    assert response.status_code == 409
    assert "no space left on device" in response.json()["error"]
    assert not list((studio.data_folder / upload).iterdir())


def test_a_clock_that_is_set_changes_no_state(tmp_path, monkeypatch):
    page = tmp_path / "report.html"
    page.write_text("earlier")
    own = os.getpid()
    job = Job(
        1, ["report"], str(tmp_path), created=time.time() + 1e6, pid=own, born=birth(own), earlier=page.stat().st_mtime_ns
    )
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: 0.0)
    (tmp_path / "queue.json").write_text(json.dumps([asdict(job)]))
    queue = Queue(tmp_path)
    queue.tick()
    assert queue.state(queue.jobs[0]) == "running"
    queue.jobs[0].ended = True
    assert queue.state(queue.jobs[0]) == "stopped"
    os.utime(page, (5, 5))
    assert queue.state(queue.jobs[0]) == "finished"


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)


def test_the_queue_goes_on_without_a_page(studio, monkeypatch):
    ticks = []
    monkeypatch.setattr(studio.queue, "tick", lambda: ticks.append(1))
    with TestClient(create_app(studio), base_url="http://127.0.0.1:1"):
        wait_for(lambda: ticks)


def test_the_lab_answers(client):
    sets = client.get("/api/lab/sets").json()
    assert "moons" in sets["sets"]
    drawn_points = [[0, 0], [1, 0.5], [0.5, 1]]
    field = client.post("/api/lab/field", json={"source": drawn_points, "level": 0.3}).json()
    assert len(field["density"]) == field["cells"] ** 2
    claim = client.get("/api/lab/claims/score.tweedie").json()
    assert "Tweedie" in claim["title"]
    verdict = client.post("/api/lab/claims/score.tweedie").json()
    assert verdict["holds"]
    assert all(len(row) == len(verdict["header"]) and row[-1] == "holds" for row in verdict["rows"])
    assert {claim["name"].partition(".")[0] for claim in client.get("/api/lab/claims?family=gan").json()} == {"gan"}
    assert client.get("/api/lab/claims?family=none").status_code == 400
    assert client.post("/api/lab/field", json={"source": "nowhere"}).status_code == 400
    assert client.get("/api/lab/claims/no.claim").status_code == 400
    assert client.post("/api/lab/vae/decode", json={"z": [0, 0]}).json()["error"] == "train the VAE first"


def test_a_report_is_a_page(client, trained):
    (trained / "digits" / "report.html").write_text("<h1>report</h1>", encoding="utf-8")
    response = client.get("/api/runs/digits/report")
    assert response.text == "<h1>report</h1>"
    assert "default-src 'self'" in response.headers["content-security-policy"]
    (trained / "compare-a").mkdir()
    (trained / "compare-a" / "report.html").write_text("<h1>both</h1>", encoding="utf-8")
    assert [page["id"] for page in client.get("/api/comparisons").json()] == ["compare-a"]
    assert client.get("/api/comparisons/compare-a/report").text == "<h1>both</h1>"
    assert client.get("/api/comparisons/..%2Fdigits/report").status_code in (400, 404)
    (trained / "digits" / "report.html").unlink()
    shutil.rmtree(trained / "compare-a")


def test_a_picture_is_restored_by_the_run_of_its_name_beside_a_copy(client, trained):
    done = drawn(client, {"n": 2, "steps": 3})[-1][1]
    shutil.copytree(trained / "digits", trained / "a-copy")
    try:
        restored = client.post("/api/restore", content=client.get(done["png"]).content).json()
        assert (restored["run"], restored["exact"]) == ("digits", True)
    finally:
        shutil.rmtree(trained / "a-copy")


def test_weights_that_cannot_be_read_are_said(client, trained):
    broken = trained / "broken"
    shutil.copytree(trained / "digits", broken)
    weights = broken / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    try:
        run = client.get("/api/runs/broken").json()
        assert not run["sampled"]
        assert run["health"][0] == {"text": "The weights cannot be read: model.safetensors is damaged.", "tone": "bad"}
    finally:
        shutil.rmtree(broken)


def test_pictures_of_tables_are_figures_which_have_the_background_of_the_theme(conditioned):
    studio = Studio([conditioned], device="cpu")
    with TestClient(create_app(studio), base_url="http://127.0.0.1:1") as other:
        other.headers["authorization"] = f"Bearer {studio.token}"
        for run, figure in (("table", True), ("number", False)):
            made = events(other.post(f"/api/runs/{run}/samples", json={"request": {"n": 2}}))[-1][1]
            assert made["samples"].get("figure", False) is figure
            assert other.get("/api/gallery").json()[0]["figure"] is figure


def test_a_run_whose_recipe_cannot_be_read_says_why(client, trained):
    broken = trained / "broken"
    shutil.copytree(trained / "digits", broken)
    recipe = broken / "recipe.yaml"
    settings = recipe.read_text("utf-8").partition("\n")[2]  # without the line of the checksum, as an earlier version wrote it
    recipe.write_text(settings + "novelty: 1\n", encoding="utf-8")
    try:
        run = client.get("/api/runs/broken").json()
        assert "novelty" in run["problem"]
        assert [s["tone"] for s in run["health"]] == ["bad"]
        assert "digits" in {other["id"] for other in client.get("/api/runs").json()}
    finally:
        shutil.rmtree(broken)
