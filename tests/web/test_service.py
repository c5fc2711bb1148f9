"""The service: every request draws what the command draws, is limited, and is answered once."""

import asyncio
import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.requests import Request

pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

from ancestral.app.sampling.provenance import read
from ancestral.app.web.service import Limits, Service, create_service
from ancestral.app.web.service.state import LeftError
from ancestral.errors import UsageError

RUNS = Path(__file__).parents[1] / "fixtures" / "format1"
NAMES = ("diffusion", "gan", "latent", "score", "vae")
TOKEN = "a-token-of-24-characters"
LIMITS = Limits(samples=64, steps=2_000_000, queue=80)


def opened(service, **how):
    return TestClient(create_service(service, **how), base_url="http://127.0.0.1:1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def service():
    return Service([RUNS / name for name in NAMES], device="cpu", precision="fp32", limits=LIMITS)


@pytest.fixture(scope="module")
def client(service):
    with opened(service) as found:
        yield found


@pytest.fixture
def small():
    """A function that returns a client of one model with its own limits, and its service."""
    made = []

    def of(*names, token=None, local=True, **limits):
        service = Service([RUNS / name for name in names], device="cpu", precision="fp32", limits=Limits(**limits))
        made.append(opened(service, token=token, local=local))
        made[-1].__enter__()
        return made[-1], service

    yield of
    for client in made:
        client.__exit__(None, None, None)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)


def events(text):
    """(name, values) of a stream of events."""
    blocks = [block.splitlines() for block in text.strip().split("\n\n") if not block.startswith(":")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def arrays(response):
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content))


@pytest.mark.parametrize("family", NAMES)
def test_an_npz_is_what_the_command_writes(family, client, command, tmp_path):
    by_class, steps = family in ("diffusion", "gan"), family not in ("gan", "vae")
    asked = {"model": family, "seeds": [3, 7], "format": "npz"}
    asked |= ({"condition": {"class": "2"}} if by_class else {}) | ({"steps": 5, "solver": "heun"} if steps else {})
    words = [*(["--class", "2"] if by_class else []), *(["--steps=5", "--solver=heun"] if steps else [])]
    words += ["--seeds", "3,7", "--precision=fp32", "--device=cpu", "--quiet", "--out", tmp_path / "x.npz"]
    assert command("sample", RUNS / family, *words).returncode == 0
    found, expected = arrays(client.post("/v1/samples", json=asked)), np.load(io.BytesIO((tmp_path / "x.npz").read_bytes()))
    assert set(found) == set(expected)
    assert found["seeds"].tolist() == [3, 7]
    assert found["x"].dtype == expected["x"].dtype
    assert np.abs(found["x"].astype(float) - expected["x"]).max() <= (1 if expected["x"].dtype == np.uint8 else 1e-4)


def test_a_png_is_what_the_command_writes_and_draws_itself_again(client, command, tmp_path):
    asked = {"model": "diffusion", "n": 6, "seed": 4, "steps": 3, "condition": {"class": ["1", "7"]}, "guidance": 2.0}
    response = client.post("/v1/samples", json=asked)
    assert response.headers["content-type"] == "image/png"
    words = ["-n6", "--seed=4", "--steps=3", "--class=1,7", "--guidance=2", "--precision=fp32", "--device=cpu", "--quiet"]
    assert command("sample", RUNS / "diffusion", *words, "--out", tmp_path / "x.png").returncode == 0
    with Image.open(io.BytesIO(response.content)) as found, Image.open(tmp_path / "x.png") as expected:
        assert np.abs(np.asarray(found).astype(int) - np.asarray(expected)).max() <= 1
    record = read(response.content, tmp_path)
    assert (record.request.n, record.request.seed, record.request.conditions.classes) == (6, 4, ("1", "7"))


def test_numbers_are_those_of_the_npz(client):
    asked = {"model": "diffusion", "seeds": [5], "steps": 2}
    found = client.post("/v1/samples", json=asked | {"format": "json"}).json()
    assert found["samples"] == arrays(client.post("/v1/samples", json=asked | {"format": "npz"}))["x"].tolist()
    assert (found["model"], found["seeds"], found["shape"]) == ("diffusion", [5], [1, 8, 8])


def test_numbers_that_are_not_finite_are_null(client):
    found = client.post("/v1/samples", json={"model": "score", "n": 2, "steps": 2, "format": "json"})
    assert np.isfinite(found.json()["samples"]).all()
    from ancestral.app.web.service.routes import _finite

    assert _finite([[1.0, float("nan")], [float("inf"), -2.0]]) == [[1.0, None], [None, -2.0]]


@pytest.mark.long
def test_mixed_requests_at_the_same_time_get_what_each_gets_alone(client, service):
    """Forty requests of five models in ten threads, whose samples are drawn in fewer batches than there are requests."""
    kinds = [
        {"model": "diffusion", "seeds": [1, 2], "steps": 4, "condition": {"class": "3"}},
        {"model": "diffusion", "seeds": [9], "steps": 4, "condition": {"class": "8"}},
        {"model": "diffusion", "seeds": [9], "steps": 4, "solver": "adaptive"},
        {"model": "gan", "n": 3, "condition": {"class": "1"}, "truncation": 0.7},
        {"model": "latent", "n": 2, "steps": 3},
        {"model": "score", "n": 5, "steps": 4, "solver": "dpmpp-sde"},
        {"model": "vae", "n": 3, "observe": "draw"},
        {"model": "vae", "seeds": [2**64 - 1]},
    ]
    alone = [client.post("/v1/samples", json=kind | {"format": "json"}).json()["samples"] for kind in kinds]
    before, results = service.metrics.text().decode(), {}

    def ask(k):
        for i in range(k, 40, 10):
            results[i] = client.post("/v1/samples", json=kinds[i % 8] | {"format": "json"})

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40
    for i, response in results.items():
        assert response.status_code == 200, response.text
        found, expected = np.array(response.json()["samples"]), np.array(alone[i % 8])
        assert np.abs(found - expected).max() <= (1e-4 if kinds[i % 8]["model"] == "score" else 1)

    def batches(text):
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("ancestral_batch_samples_count"))

    assert batches(service.metrics.text().decode()) - batches(before) < 40


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"model": "nobody"}, 404, "unknown model 'nobody'"),
        ({}, 400, "several models"),
        ({"model": "vae", "colour": "red"}, 400, "colour"),
        ({"model": "vae", "n": "3"}, 400, "valid integer"),
        ({"model": "vae", "n": 0}, 400, "at least 1"),
        ({"model": "vae", "n": 65}, 400, "65 samples are too many"),
        ({"model": "vae", "n": 10**30}, 400, "too many"),
        ({"model": "vae", "seeds": []}, 400, "not be empty"),
        ({"model": "vae", "seeds": [-1]}, 400, "from 0 to 2^64 - 1"),
        ({"model": "vae", "n": 1, "seed": 2**32}, 400, "from 0 to 2^32 - 1"),
        ({"model": "vae", "steps": 4}, 400, "unknown option of this model 'steps'"),
        ({"model": "vae", "condition": {"class": "1"}}, 400, "not trained with the condition 'class'"),
        ({"model": "diffusion", "steps": 0}, 400, "at least 1 step"),
        ({"model": "diffusion", "steps": 2_000_001}, 400, "2,000,001 steps are too many"),
        ({"model": "diffusion", "solver": "hean"}, 400, "did you mean 'heun'"),
        ({"model": "diffusion", "spacing": [1.0, 2.0]}, 400, "from 1"),
        ({"model": "diffusion", "condition": {"class": "eleven"}}, 400, "unknown class 'eleven'"),
        ({"model": "diffusion", "condition": {"class": {"a": 1}}}, 400, "is a text or a whole number"),
        ({"model": "diffusion", "condition": {"class": ["x" * 3000]}}, 400, "3,000 characters"),
        ({"model": "diffusion", "condition": {"layout": "/etc/passwd"}}, 400, "list of boxes"),
        ({"model": "diffusion", "condition": {"map": "/etc/passwd"}}, 400, "base64"),
        ({"model": "diffusion", "condition": {"map": {"file": "bm90aGluZw=="}}}, 400, "the picture that was sent"),
        ({"model": "diffusion", "condition": {"mood": [[[[[[[[1]]]]]]]]}}, 400, "too deeply"),
        ({"model": "diffusion", "guidance": 2.0}, 400, "needs a condition"),
        ({"model": "diffusion", "edit": {"vary": {"file": "bm90aGluZw=="}}}, 400, "cannot read the picture that was sent: not"),
        ({"model": "diffusion", "effort": "best", "steps": 3}, 400, "chooses the whole sampler"),
        ({"model": "gan", "truncation": -1}, 400, "truncation is a number"),
    ],
)
def test_a_request_that_is_wrong_gets_a_sentence(client, asked, status, said):
    response = client.post("/v1/samples", json=asked)
    assert (response.status_code, said in response.json()["error"]["message"]) == (status, True), response.text
    assert str(RUNS) not in response.text


def test_bodies_that_are_no_requests_are_refused(client):
    json_ = {"content-type": "application/json"}
    for content in (b"", b"[]", b"{", b"[" * 100_000, b'{"seeds": [' + b"9" * 5000 + b"]}", b'{"guidance": NaN}', b"\xff\xfe"):
        assert client.post("/v1/samples", content=content, headers=json_).status_code == 400, content[:20]
    assert client.post("/v1/samples", content=b"{}", headers={"content-type": "text/plain"}).status_code == 400
    assert client.get("/v1/samples").status_code == 405
    assert client.get("/v1/nothing").json() == {"error": {"message": "not found", "type": "not_found_error"}}


def test_an_edit_brings_its_picture_and_leaves_no_file(client, service, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(buffer, "PNG")
    edit = {"vary": {"file": base64.b64encode(buffer.getvalue()).decode()}, "strength": 0.0}
    found = arrays(client.post("/v1/samples", json={"model": "diffusion", "n": 1, "steps": 3, "edit": edit, "format": "npz"}))
    assert (found["x"] == round(200 / 255 * 16)).all()
    assert list(tmp_path.iterdir()) == []
    large = io.BytesIO()
    Image.new("1", (5000, 5000)).save(large, "PNG")
    edit = {"vary": {"file": base64.b64encode(large.getvalue()).decode()}}
    response = client.post("/v1/samples", json={"model": "diffusion", "edit": edit})
    assert "send at most" in response.json()["error"]["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [{"file": "aGk="}, [{"file": "aGk="}], {"npy": "aGk="}])
def test_no_condition_writes_a_file(client, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("mood", "class", "text", "number", "layout"):
        response = client.post("/v1/samples", json={"model": "diffusion", "n": 1, "steps": 1, "condition": {name: value}})
        assert response.status_code == 400, (name, response.text)
    assert list(tmp_path.iterdir()) == []


def test_states_are_streamed_before_the_samples(client):
    asked = {"model": "diffusion", "n": 3, "steps": 150, "condition": {"class": "4"}, "format": "npz"}
    found = events(client.post("/v1/samples", json=asked | {"stream": True}).text)
    names = [name for name, _ in found]
    assert names[0] == "queued"
    assert names[-1] == "done"
    assert set(names[1:-1]) == {"state"}
    state = found[1][1]
    assert (state["n"], state["total"], state["samples"]["form"]) == (3, 150, "pixels")
    content = np.load(io.BytesIO(base64.b64decode(found[-1][1]["content"])))
    assert (content["x"] == arrays(client.post("/v1/samples", json=asked))["x"]).all()
    wrong = events(client.post("/v1/samples", json=asked | {"stream": True, "steps": 0}).text)
    assert wrong[-1][0] == "error"
    assert "at least 1 step" in wrong[-1][1]["error"]["message"]


def test_openai_clients_get_pictures(client, tmp_path):
    asked = {
        "model": "gan",
        "prompt": " 3 ",
        "n": 2,
        "seed": 6,
        "size": "8x8",
        "response_format": "b64_json",
        "quality": "auto",
    }
    found = client.post("/v1/images/generations", json=asked).json()
    assert [each["seed"] for each in found["data"]] == [6 << 32, (6 << 32) + 1]
    expected = arrays(
        client.post("/v1/samples", json={"model": "gan", "n": 2, "seed": 6, "condition": {"class": "3"}, "format": "npz"})
    )
    for each, x in zip(found["data"], expected["x"], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(each["b64_json"]))) as picture:
            assert picture.size == (8, 8)
            assert np.abs(np.asarray(picture) / 255 * 16 - x[0]).max() <= 1
    record = read(base64.b64decode(found["data"][1]["b64_json"]), tmp_path)
    assert (record.request.chosen_seeds()[1], record.arrangement, record.run) == ((6 << 32) + 1, {"sample": 1}, "gan")
    one, other = (client.post("/v1/images/generations", json={"model": "vae", "prompt": ""}).json()["data"] for _ in range(2))
    assert one[0]["seed"] != other[0]["seed"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "gan", "prompt": "a cat"}, "gan draws classes, not texts: unknown class 'a cat'"),
        ({"model": "vae", "prompt": "a cat"}, "no condition that a prompt could name"),
        ({"model": "score", "prompt": ""}, "not pictures"),
        ({"model": "vae", "prompt": "", "size": "1024x1024"}, "vae draws pictures of 8x8"),
        (
            {"model": "vae", "prompt": "", "response_format": "url", "style": "vivid"},
            "response_format='url' (only 'b64_json'), style",
        ),
        ({"model": "vae", "prompt": "", "n": 65}, "too many"),
    ],
)
def test_what_openai_clients_cannot_have_is_said_in_one_sentence(client, asked, said):
    response = client.post("/v1/images/generations", json=asked)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


def test_models_are_described(client):
    found = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    assert list(found) == list(NAMES)
    assert found["diffusion"]["conditions"]["class"]["names"] == [str(i) for i in range(10)]
    assert (found["gan"]["options"], found["gan"]["size"], found["score"]["size"]) == (["truncation"], "8x8", None)
    assert client.get("/v1/models/vae").json() == found["vae"]
    assert client.get("/v1/models/nobody").status_code == 404


def test_health_metrics_and_the_page(client):
    client.post("/v1/samples", json={"model": "vae", "n": 2})
    client.get("/v1/nothing/at/all")
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready", "waiting": 0}
    text = client.get("/metrics").text
    assert 'ancestral_requests_total{route="/v1/samples",status="200"}' in text
    assert 'ancestral_requests_total{route="other",status="404"}' in text
    assert 'ancestral_samples_total{model="vae"}' in text
    assert "nothing/at/all" not in text
    page = client.get("/docs")
    assert "POST /v1/samples" in page.text
    assert "<script" not in page.text
    assert "http" not in page.text.replace("http://127.0.0.1:1", "")
    assert client.get("/openapi.json").json()["paths"].keys() >= {"/v1/samples", "/v1/images/generations", "/metrics"}


def test_only_those_with_the_token_are_answered(small, service):
    client, _ = small("vae", token=TOKEN, local=False)
    for headers in (
        {},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer "},
    ):
        response = client.post("/v1/samples", json={}, headers=headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert response.json()["error"]["type"] == "authentication_error"
    for path in ("/metrics", "/v1/models", "/docs", "/openapi.json", "/nothing"):
        assert client.get(path).status_code == 401
    assert client.get("/health").status_code == client.get("/ready").status_code == 200
    headers = {"authorization": f"Bearer {TOKEN}", "host": "samples.example"}
    assert client.post("/v1/samples", json={"n": 1}, headers=headers).status_code == 200
    with pytest.raises(UsageError, match="at least 16"):
        create_service(service, token="short")


def test_without_a_token_only_this_machine_and_its_own_pages_are_answered(client):
    assert client.get("/v1/models", headers={"host": "evil.example:1"}).status_code == 403
    assert client.post("/v1/samples", json={"model": "vae"}, headers={"origin": "http://evil.example"}).status_code == 403


def test_bodies_are_limited(small):
    client, _ = small("vae", body=1000)
    json_ = {"content-type": "application/json"}
    assert client.post("/v1/samples", content=b" " * 1001, headers=json_).status_code == 413
    response = client.post("/v1/samples", content=iter([b" " * 600] * 2), headers=json_)
    assert (response.status_code, response.json()["error"]["message"]) == (413, "this is larger than the limit of 0.001 MB")


def test_pixels_are_limited(small):
    client, _ = small("vae", pixels=64 * 3)
    assert client.post("/v1/samples", json={"n": 3}).status_code == 200
    assert "have 256 pixels" in client.post("/v1/samples", json={"n": 4}).json()["error"]["message"]


def test_a_full_queue_answers_429_and_says_when_to_ask_again(small):
    client, service = small("diffusion", samples=4, queue=4, steps=200_000)
    running = service.order(service.find(None), {"n": 1, "steps": 200_000}, watched=True)
    wait_for(lambda: running.job.progress)
    waiting = service.order(service.find(None), {"n": 3, "steps": 2})
    response = client.post("/v1/samples", json={"n": 2, "steps": 2})
    assert (response.status_code, response.json()["error"]["type"]) == (429, "rate_limit_error")
    assert 1 <= int(response.headers["retry-after"]) <= 600
    assert client.get("/ready").status_code == 200
    running.close()
    assert waiting.job.future.result(60).shape[0] == 3
    assert client.post("/v1/samples", json={"n": 2, "steps": 2}).status_code == 200
    assert 'ancestral_requests_ended_total{reason="busy"} 1.0' in client.get("/metrics").text


def test_what_takes_too_long_ends(small):
    client, _ = small("diffusion", steps=20_000, seconds=2)
    response = client.post("/v1/samples", json={"n": 1, "steps": 20_000})
    assert (response.status_code, "within 2 s" in response.text) == (504, True)
    found = events(client.post("/v1/samples", json={"n": 1, "steps": 20_000, "stream": True}).text)
    assert "within 2 s" in found[-1][1]["error"]["message"]
    assert client.post("/v1/samples", json={"n": 1, "steps": 2}).status_code == 200


def test_the_work_of_a_client_that_left_is_cancelled(service):
    order = service.order(service.find("diffusion"), {"n": 1, "steps": 200_000}, watched=True)
    wait_for(lambda: order.job.progress)

    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(LeftError):
        asyncio.run(service.result(order, Request({"type": "http"}, receive)))
    assert order.job.future.cancelled()
    other = service.order(service.find("diffusion"), {"n": 1, "steps": 2})
    assert other.job.future.result(60).isfinite().all()


def test_an_error_of_the_service_is_no_riddle(client, service, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(service.models["vae"].model, "finished", broken)
    response = client.post("/v1/samples", json={"model": "vae"})
    assert (response.status_code, response.json()["error"]["message"]) == (503, "the memory is full: ask for fewer samples")
    assert client.post("/v1/samples", json={"model": "gan"}).status_code == 200


def test_what_was_accepted_is_finished_at_the_end():
    service = Service([RUNS / "diffusion"], device="cpu", precision="fp32", limits=LIMITS)
    with opened(service):
        orders = [service.order(service.find(None), {"n": 2, "steps": steps}) for steps in (20, 21, 22)]
    assert all(order.job.future.result(0).isfinite().all() for order in orders)
    assert not service.batcher.alive


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the runs to serve"),
        (("nowhere",), "nowhere"),
        ((RUNS / "vae", "--host", "0.0.0.0"), "can be reached from other machines: set --token"),
        ((RUNS / "vae", "--host", "nowhere.invalid", "--token", TOKEN), "no address of this machine"),
        ((RUNS / "vae", "--port", "0", "--token", "short"), "at least 16"),
        ((RUNS / "vae", RUNS / "vae", "--port", "0"), "two runs are named 'vae'"),
        ((RUNS / "vae", "--queue", "3"), "raise --queue"),
        ((RUNS / "vae", "--timeout", "0"), "must be at least 1"),
    ],
)
def test_a_wrong_command_gets_a_sentence(command, words, said):
    ended = command("serve", *words)
    assert (ended.returncode != 0, said in " ".join(ended.stderr.split())) == (True, True), ended.stderr


def test_what_is_deployed_is_a_command():
    from ancestral.app.cli import app

    folder = Path(__file__).parents[2] / "deploy"
    (unit,) = re.findall(r"^ExecStart=(.*)$", (folder / "ancestral.service").read_text(), re.M)
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", (folder / "Dockerfile").read_text(), re.M)
    for words in (unit.split(), [*json.loads(entry), "/runs/digits"]):
        command, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
        assert (command.__name__, len(bound.args), bound.arguments["port"]) == ("serve", 1, 8000)


@pytest.mark.long
def test_the_server_as_a_process(tmp_path):
    """Clients that are slow, that leave, and that were accepted before the end; and the example of a client."""
    words = [
        sys.executable,
        "-m",
        "ancestral",
        "serve",
        RUNS / "diffusion",
        "--port=0",
        "--patience=1",
        "--quiet",
        "--device=cpu",
    ]
    words += ["--max-steps=100000", "--precision=fp32"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        host, _, port = address.removeprefix("http://").rpartition(":")

        def connected(head, body=b""):
            found = socket.create_connection((host, int(port)), timeout=20)
            found.sendall(head.encode() + body)
            return found

        def post(length):
            head = f"POST /v1/samples HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
            return f"{head}content-length: {length}\r\n\r\n"

        def metrics():
            with urllib.request.urlopen(f"{address}/metrics", timeout=20) as response:
                return response.read().decode()

        with connected("GET / HTT") as head, connected(post(100), b"{") as body:
            assert head.recv(1000) == b""
            assert body.recv(1000).startswith(b"HTTP/1.1 408")
        long = json.dumps({"n": 1, "steps": 100_000}).encode()
        with connected(post(len(long)), long):
            wait_for(lambda: "ancestral_requests_running 2.0" in metrics())
        wait_for(lambda: 'ancestral_requests_ended_total{reason="left"} 1.0' in metrics())
        client = Path(__file__).parents[2] / "examples" / "client.py"
        said = subprocess.run(
            [sys.executable, client, address, "--class=3", "--out", tmp_path], capture_output=True, text=True, check=True
        )
        assert "8 arrays" in said.stdout
        assert {file.name for file in tmp_path.iterdir()} == {"samples.png", "streamed.png", *(f"{i}.npz" for i in range(8))}
        asked = json.dumps({"n": 8, "steps": 300, "format": "npz"}).encode()
        with connected(post(len(asked)), asked) as accepted:
            wait_for(lambda: "ancestral_requests_running 2.0" in metrics())
            process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: accepted.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert len(np.load(io.BytesIO(answer.partition(b"\r\n\r\n")[2]))["x"]) == 8
        assert process.wait(20) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        with pytest.raises(OSError):
            connected("")
        assert "Traceback" not in process.stderr.read()
