"""How fast `ancestral serve` draws what many clients ask for, and whether anything wrong or lost comes of bad ones.

    python benchmarks/serve.py [--run RUN] [--seconds 10] [--rounds 3] [--clients 1 8 32] [--json FILE]
    python benchmarks/serve.py --only memory --minutes 60

load: clients that ask for one sample each, one after the other, from a service that draws requests together and from one that
does not. overload: far more than the queue takes. bad: clients that are killed, slow, or send what is no request,
beside an honest one. memory: mixed requests for `--minutes`, and the memory of the process. Every sample that comes back is
compared with what the model draws alone. Without --run a small model of digits is trained first. Clients and service share the
processor.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from speed import _processor as processor

SEEDS = 64  # different requests
STEPS = 8
PATIENCE = 2.0  # seconds that the service waits for slow clients
MEASURED = ("samples per second", "p50 ms", "p99 ms", "samples a batch")
SMALL = ("train.previews=0", "train.diagnoses=0")
JUNK = (
    b"",
    b"\x00" * 1000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/samples HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    b"POST /v1/samples HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
    b"POST /v1/samples HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
)
BODIES = (
    b"[" * 50_000,
    b'{"seeds": [' + b"9" * 10_000 + b"]}",
    b'{"n": 1e400}',
    b'{"n": 999999999999}',
    b'{"steps": 999999999}',
    b'{"condition": {"class": ["' + b"\xf0\x9f\x98\x80" * 10_000 + b'"]}}',
    b'{"condition": {"layout": "/etc/passwd"}}',
    b'{"edit": {"vary": {"file": "' + b"A" * 100_000 + b'"}}}',
    b'{"guidance": NaN}',
    b'{"spacing": [' + b"0.5," * 10_000 + b"0]}",
)


class Server:
    """`ancestral serve` as a process."""

    def __init__(self, run: Path, *options: str):
        words = [sys.executable, "-m", "ancestral", "serve", str(run), "--port=0", "--quiet", "--device=cpu"]
        self.process = subprocess.Popen([*words, *options], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.stdout = self.process.stdout
        address = self.stdout.readline().strip()
        self.host, _, port = address.removeprefix("http://").rpartition(":")
        self.port = int(port)

    def connect(self, timeout: float = 300) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def socket(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=60)

    def metrics(self) -> dict[str, float]:
        connection = self.connect()
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        return float(psutil.Process(self.process.pid).memory_info().rss / 1e6)


@contextmanager
def served(run: Path, *options: str) -> Iterator[Server]:
    """Open a context with a service. Raises RuntimeError if it does not end when it is asked to."""
    server = Server(run, *options)
    try:
        yield server
    finally:
        server.process.terminate()
        server.stdout.close()
        if server.process.wait(60) not in (-15, 143):
            raise RuntimeError(f"the service ended with {server.process.returncode}")


class Truth:
    """What the model draws alone, for `SEEDS` seeds."""

    def __init__(self, run: Path):
        from ancestral.app.sampling import SampleRequest
        from ancestral.app.sampling.writing import values
        from ancestral.app.training.saved import opened

        found = opened(run)
        model = found.load_model("cpu")
        steps = STEPS if "steps" in model.options else None
        self.request = {} if steps is None else {"steps": steps}
        drawn = [SampleRequest(seeds=(seed,), steps=steps).prepare(model, run=found).sample() for seed in range(SEEDS)]
        self.samples = [values(x, found.spec)[0].astype(float) for x in drawn]
        self.tolerance = 1 if found.spec.levels is not None else 1e-3
        self.parameters = sum(p.numel() for p in model.parameters())
        self.shape = "x".join(map(str, found.spec.shape))

    def wrong(self, content: bytes, seeds: list[int]) -> bool:
        """Return whether an answer is not what was asked for."""
        with np.load(io.BytesIO(content)) as arrays:
            if arrays["seeds"].tolist() != seeds:
                return True
            return any(
                np.abs(x - self.samples[seed]).max() > self.tolerance for seed, x in zip(seeds, arrays["x"], strict=True)
            )


class Client:
    """A client that asks one thing after the other on one connection."""

    def __init__(self, server: Server, truth: Truth, seed: int):
        self.connection, self.truth, self.random = server.connect(), truth, random.Random(seed)
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.waits: list[int] = []
        self.wrong = 0

    def ask(self, n: int = 1) -> int:
        """Ask for n samples and check them. Returns the status."""
        seeds = [self.random.randrange(SEEDS) for _ in range(n)]
        body = json.dumps({"seeds": seeds, "format": "npz"} | self.truth.request)
        begun = time.perf_counter()
        self.connection.request("POST", "/v1/samples", body, {"content-type": "application/json"})
        response = self.connection.getresponse()
        content = response.read()
        self.seconds.append(time.perf_counter() - begun)
        self.statuses[response.status] += 1
        if response.status == 200:
            self.wrong += self.truth.wrong(content, seeds)
        elif response.status == 429:
            self.waits.append(int(response.headers["retry-after"]))
        return response.status


def together(server: Server, truth: Truth, n: int, work: Callable[[Client], None]) -> list[Client]:
    """Let n clients work at the same time."""
    clients = [Client(server, truth, seed) for seed in range(n)]
    with ThreadPoolExecutor(n) as threads:
        list(threads.map(work, clients))
    for client in clients:
        client.connection.close()
    return clients


def until(end: float) -> Callable[[Client], None]:
    """Return the work of a client that asks for one sample after the other."""

    def work(client: Client) -> None:
        while time.monotonic() < end:
            client.ask()

    return work


def load(run: Path, truth: Truth, clients: list[int], seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure throughput and times of clients that ask for one sample each, in turns of the two services."""
    rows = []
    with served(run, "--batch=1") as alone, served(run, "--batch=32") as batched:
        services = {"alone": alone, "batched": batched}
        for server in services.values():
            together(server, truth, 2, until(time.monotonic() + min(1, seconds)))  # warm
        for n in clients:
            turns: dict[str, list[dict[str, float]]] = {name: [] for name in services}
            for _ in range(rounds):
                for name, server in services.items():
                    turns[name].append(_turn(server, truth, n, seconds))
            row: dict[str, Any] = {"clients": n}
            for name, found in turns.items():
                row |= {f"{name}: {key}": float(np.median([turn[key] for turn in found])) for key in MEASURED}
                row |= {f"{name}: {key}": sum(turn[key] for turn in found) for key in ("requests", "wrong", "lost")}
            pairs = zip(turns["batched"], turns["alone"], strict=True)
            row["ratio of samples per second"] = sorted(a["samples per second"] / b["samples per second"] for a, b in pairs)
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def _turn(server: Server, truth: Truth, n: int, seconds: float) -> dict[str, float]:
    """Let n clients ask for some seconds."""

    def batches() -> float:
        return next((value for key, value in server.metrics().items() if key.startswith("ancestral_batch_samples_count")), 0.0)

    before, begun = batches(), time.monotonic()
    found = together(server, truth, n, until(begun + seconds))
    took, times = time.monotonic() - begun, np.concatenate([client.seconds for client in found])
    return {
        "requests": len(times),
        "samples per second": len(times) / took,
        "p50 ms": 1e3 * float(np.percentile(times, 50)),
        "p99 ms": 1e3 * float(np.percentile(times, 99)),
        "samples a batch": len(times) / (batches() - before),
        "wrong": sum(client.wrong for client in found),
        "lost": len(times) - sum(client.statuses[200] for client in found),
    }


def overload(run: Path, truth: Truth, seconds: float) -> dict[str, Any]:
    """Ask for far more than the queue takes, without waiting as the answers ask to."""
    with served(run, "--queue=64", "--max-samples=8") as server:

        def work(client: Client) -> None:
            while time.monotonic() < end:
                client.ask(8)

        end = time.monotonic() + seconds
        found = together(server, truth, 32, work)
        statuses = sum((client.statuses for client in found), Counter[int]())
        waits = [wait for client in found for wait in client.waits]
        result = {
            "answers": dict(statuses),
            "asked": sum(len(client.seconds) for client in found),
            "answered": sum(statuses.values()),
            "wrong": sum(client.wrong for client in found),
            "retry-after s": [min(waits, default=0), max(waits, default=0)],
            "p99 ms of all answers": 1e3 * float(np.percentile(np.concatenate([client.seconds for client in found]), 99)),
        }
        honest = Client(server, truth, 0)
        result["afterwards"] = honest.ask()
        honest.connection.close()
    return result


def bad(run: Path, truth: Truth, n: int) -> dict[str, Any]:
    """Send bad clients of every kind beside an honest one."""
    result: dict[str, Any] = {}
    with served(run, f"--patience={PATIENCE}", "--max-steps=100000") as server:
        honest, stop = Client(server, truth, 0), threading.Event()

        def ask() -> None:
            while not stop.is_set():
                honest.ask()

        watcher = threading.Thread(target=ask)
        watcher.start()
        head = f"POST /v1/samples HTTP/1.1\r\nhost: {server.host}:{server.port}\r\ncontent-type: application/json\r\n"
        for name, kind in (("killed", _killed), ("slow", _slow), ("malicious", _malicious)):
            at = len(honest.seconds)
            result[name] = kind(server, head, n) | {"honest requests meanwhile": len(honest.seconds) - at}
        stop.set()
        watcher.join()
        result["honest"] = {
            "answers": dict(honest.statuses),
            "wrong": honest.wrong,
            "p50 ms": 1e3 * float(np.percentile(honest.seconds, 50)),
            "p99 ms": 1e3 * float(np.percentile(honest.seconds, 99)),
        }
        honest.connection.close()
        time.sleep(0.5)
        result["connections left"] = len(psutil.Process(server.process.pid).net_connections()) - 1  # that on which it listens
    return result


def _killed(server: Server, head: str, n: int) -> dict[str, Any]:
    """Clients that ask for much work and are gone before it is done."""
    ended = 'ancestral_requests_ended_total{reason="left"}'
    before, body = server.metrics().get(ended, 0.0), json.dumps({"n": 8, "steps": 100_000}).encode()
    killed = []
    for _ in range(n):
        connection = server.socket()
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        killed.append(connection)
    time.sleep(1)
    begun = time.monotonic()
    for connection in killed:
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )  # as a process that dies
        connection.close()
    while server.metrics().get(ended, 0.0) - before < n and time.monotonic() < begun + 60:
        time.sleep(0.05)
    return {"clients": n, "cancelled": server.metrics().get(ended, 0.0) - before, "seconds": time.monotonic() - begun}


def _slow(server: Server, head: str, n: int) -> dict[str, Any]:
    """Clients that send a head or a body a byte at a time, or never read their answer."""
    begun, ends = time.monotonic(), Counter[str]()

    def drip(content: bytes, first: bytes) -> None:
        with server.socket() as connection:
            connection.sendall(first)
            try:
                for i in range(len(content)):
                    connection.sendall(content[i : i + 1])
                    time.sleep(0.2)
            except OSError:
                ends["closed"] += 1
                return
            ends["finished"] += 1

    def deaf() -> None:
        with server.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line = f"GET /openapi.json HTTP/1.1\r\nhost: {server.host}:{server.port}\r\n\r\n".encode()
            try:
                while time.monotonic() < begun + 180:
                    connection.sendall(line * 50)
                    time.sleep(0.05)
            except OSError:
                ends["closed"] += 1
                return
            ends["finished"] += 1

    works = [(drip, b"GET / HTTP/1.1\r\nhost: " + b"a" * 500, b"")] * n
    works += [(drip, b"{" * 500, f"{head}content-length: 1000\r\n\r\n".encode())] * n
    threads = [threading.Thread(target=work, args=words) for work, *words in works]
    threads += [threading.Thread(target=deaf) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"clients": 3 * n, **ends, "seconds": time.monotonic() - begun}


def _malicious(server: Server, head: str, n: int) -> dict[str, Any]:
    """Bytes that are no HTTP, and bodies that are no request."""
    answers: Counter[str] = Counter()
    generator = random.Random(0)
    junk = [*JUNK, *(generator.randbytes(200) for _ in range(n))]
    whole = [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in BODIES]
    for content in junk + whole:
        with server.socket() as connection:
            with suppress(OSError):
                connection.sendall(content)
                if content in junk:  # which may be the beginning of a request
                    connection.shutdown(socket.SHUT_WR)
            answer = b""
            with suppress(OSError):
                answer = connection.recv(100)
        answers[answer[9:12].decode("latin-1") or "closed"] += 1
    return {"sent": len(junk) + len(whole), "answers": dict(answers)}


def memory(run: Path, truth: Truth, minutes: float) -> dict[str, Any]:
    """Ask mixed requests for some minutes and watch the memory of the service."""
    with served(run, "--queue=64", "--max-steps=2000") as server:
        begun, points = time.monotonic(), []
        end = begun + 60 * minutes
        paths = [("POST", "/v1/samples"), ("GET", "/metrics"), ("GET", "/v1/models"), ("GET", "/nothing"), ("GET", "/docs")]

        def work(client: Client) -> None:
            while time.monotonic() < end:
                client.ask(client.random.randrange(1, 9))
                client.connection.close()  # the service closes one that waits for longer than a few seconds
                method, path = client.random.choice(paths)
                kinds = [{"format": "png"}, {"format": "json"}, {"stream": True}, {"n": 65}, {"colour": "red"}]
                body = None if method == "GET" else json.dumps(client.random.choice(kinds) | {"n": 3} | truth.request)
                with closing(server.connect()) as others:
                    others.request(method, path, body, {"content-type": "application/json"})
                    others.getresponse().read()
                if client.random.random() < 0.05:  # one that leaves
                    with server.socket() as gone:
                        text = json.dumps({"n": 8, "steps": 2000}).encode()
                        gone.sendall(f"POST /v1/samples HTTP/1.1\r\nhost: {server.host}:{server.port}\r\n".encode())
                        gone.sendall(f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n".encode() + text)
                        time.sleep(0.2)

        def watch() -> None:
            while time.monotonic() < end:
                points.append((time.monotonic() - begun, server.memory))
                time.sleep(min(5.0, 6 * minutes))

        watcher = threading.Thread(target=watch)
        watcher.start()
        found = together(server, truth, 8, work)
        watcher.join()
    at, used = np.array(points).T
    later = at > at[-1] / 3  # without the beginning, in which torch fills its caches
    slope = float(np.polyfit(at[later], used[later], 1)[0] * 3600) if later.sum() > 2 else 0.0
    return {
        "minutes": minutes,
        "requests": sum(len(client.seconds) for client in found),
        "answers": dict(sum((client.statuses for client in found), Counter[int]())),
        "wrong": sum(client.wrong for client in found),
        "MB at the start, after a third, at the end": [float(used[0]), float(used[later][0]), float(used[-1])],
        "MB an hour over the last two thirds": slope,
    }


def trained(folder: Path, budget: str) -> Path:
    """Train a small model of digits."""
    import ancestral as an

    an.train("digits", budget=budget, out=folder / "digits", settings=SMALL, quiet=True)
    return folder / "digits"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", type=Path, help="run with steps and without conditions; default: a small one of digits is trained"
    )
    parser.add_argument("--budget", default="200it", help="of the training")
    parser.add_argument("--only", nargs="+", choices=["load", "overload", "bad", "memory"], default=["load", "overload", "bad"])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each service in load")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--bad", type=int, default=20, help="bad clients of each kind")
    parser.add_argument("--minutes", type=float, default=60.0, help="of memory")
    parser.add_argument("--json", type=Path, help="file to write")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        run = given.run or trained(Path(folder), given.budget)
        truth = Truth(run)
        result: dict[str, Any] = {
            "machine": {"processor": processor(), "cores": os.cpu_count(), "load before": round(os.getloadavg()[0], 2)},
            "model": {"parameters": truth.parameters, "shape": truth.shape, "steps": truth.request.get("steps")},
        }
        parts: dict[str, Callable[[], Any]] = {
            "load": lambda: load(run, truth, given.clients, given.seconds, given.rounds),
            "overload": lambda: overload(run, truth, given.seconds),
            "bad": lambda: bad(run, truth, given.bad),
            "memory": lambda: memory(run, truth, given.minutes),
        }
        for name in given.only:
            result[name] = parts[name]()
            if name != "load":
                print(name, json.dumps(result[name], indent=2), flush=True)
        result["machine"]["load after"] = round(os.getloadavg()[0], 2)
        print(json.dumps(result["machine"]))
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
