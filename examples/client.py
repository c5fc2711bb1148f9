"""A client of `ancestral serve`, in the standard library alone: one picture, many at once, and a stream of pictures on the way.

ancestral serve runs/digits
python examples/client.py http://127.0.0.1:8000 --class 3
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


class Client:
    """A client of a service. token: the secret of the service, None if it has none."""

    def __init__(self, address: str, token: str | None = None, patience: float = 300.0):
        self.address, self.token, self.patience = address.rstrip("/"), token, patience

    def samples(self, **request: Any) -> bytes:
        """Return samples in the format that the request names. If the service is busy, wait and ask again."""
        end = time.monotonic() + self.patience
        while True:
            try:
                with self._open(request) as response:
                    content: bytes = response.read()
                    return content
            except urllib.error.HTTPError as error:
                wait = float(error.headers.get("retry-after", 1))
                if error.code != 429 or time.monotonic() + wait > end:
                    raise SystemExit(f"{error.code}: {json.load(error)['error']['message']}") from None
            time.sleep(wait)

    def events(self, **request: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the events of a request: queued, state with pictures, done with the samples, or error."""
        name = ""
        with self._open(request | {"stream": True}) as response:
            for line in response:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)

    def models(self) -> list[dict[str, Any]]:
        """Return the models of the service, with what each can be asked for."""
        with self._open(None, "/v1/models") as response:
            found: list[dict[str, Any]] = json.load(response)["data"]
            return found

    def _open(self, request: dict[str, Any] | None, path: str = "/v1/samples") -> Any:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self.token}"} if self.token else {})
        body = None if request is None else json.dumps(request).encode()
        return urllib.request.urlopen(urllib.request.Request(self.address + path, body, headers), timeout=self.patience)


def main() -> None:
    """Draw samples of the first model of a service in three ways."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("address", help="e.g. http://127.0.0.1:8000")
    parser.add_argument("--token", default=os.environ.get("ANCESTRAL_TOKEN"))
    parser.add_argument("--class", dest="class_", help="class of the samples, if the model has classes")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the files")
    given = parser.parse_args()
    client = Client(given.address, given.token)
    model = client.models()[0]
    print(f"{model['id']}: {model['family']}, samples of {'x'.join(map(str, model['shape']))}")
    request: dict[str, Any] = {"model": model["id"]}
    if given.class_ is not None:
        request["condition"] = {"class": given.class_}

    (given.out / "samples.png").write_bytes(client.samples(n=16, **request))
    print(f"16 samples: {given.out / 'samples.png'}")

    with ThreadPoolExecutor(8) as threads:  # eight requests at the same time are drawn together
        arrays = list(threads.map(lambda seed: client.samples(seeds=[seed], format="npz", **request), range(8)))
    for seed, array in enumerate(arrays):
        (given.out / f"{seed}.npz").write_bytes(array)
    print(f"8 arrays of the seeds 0 to 7: {given.out / '0.npz'} ...")

    for name, values in client.events(n=4, **request):
        if name == "state":
            print(f"step {values['done']} of {values['total']}")
        elif name == "done":
            (given.out / "streamed.png").write_bytes(base64.b64decode(values["content"]))
            print(f"4 samples: {given.out / 'streamed.png'}")
        elif name == "error":
            sys.exit(values["error"]["message"])


if __name__ == "__main__":
    main()
