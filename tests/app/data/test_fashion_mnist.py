"""Fashion-MNIST is found, fetched and checked; files a few images long stand in for the real ones."""

import gzip
import hashlib
import struct
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from ancestral.app.data import DataError
from ancestral.app.data.fashion_mnist import CLASSES, SHA256, fashion_mnist, read_idx


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def contents(train=6, test=3):
    random = np.random.RandomState(0)
    arrays = {}
    for part, n in (("train", train), ("t10k", test)):
        arrays[f"{part}-images-idx3-ubyte.gz"] = random.randint(256, size=(n, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte.gz"] = np.arange(n, dtype=np.uint8) % 10
    return arrays


@pytest.fixture
def arrays():
    return contents()


@pytest.fixture
def sha256(arrays):
    return {name: hashlib.sha256(idx(arrays[name])).hexdigest() for name in SHA256}


@pytest.fixture
def files(tmp_path, arrays):
    """A folder with the four files."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, array in arrays.items():
        (folder / name).write_bytes(gzip.compress(idx(array)))
    return folder


@pytest.fixture
def nowhere(tmp_path):
    return tmp_path / "nowhere"


@pytest.fixture
def find(sha256, nowhere):
    """`fashion_mnist` on a machine without Debian's package and without a network."""
    return partial(fashion_mnist, debian=nowhere, address=nowhere.as_uri(), sha256=sha256)


def test_debians_files_are_read(files, find, arrays, cache):
    data = find(debian=files)
    assert (data.spec.shape, data.spec.levels, data.spec.classes) == ((1, 28, 28), 256, CLASSES)
    assert len(CLASSES) == 10
    np.testing.assert_array_equal(data.train.array[:, 0], arrays["train-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(data.test.array[:, 0], arrays["t10k-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(data.test.labels, arrays["t10k-labels-idx1-ubyte.gz"])
    assert not any(cache.iterdir())


def test_fetched_files_are_checked_and_kept(files, find, cache, sha256):
    calls = []
    data = find(address=files.as_uri(), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(path.name for path in (cache / "fashion-mnist").iterdir()) == sorted(sha256)
    assert find().spec == data.spec  # this time from the cache


def test_only_what_is_missing_is_fetched(files, find, cache, arrays):
    find(address=files.as_uri())
    name = "t10k-labels-idx1-ubyte.gz"
    (cache / "fashion-mnist" / name).unlink()
    for other in arrays:
        if other != name:
            (files / other).unlink()
    assert len(find(address=files.as_uri()).test) == 3


def test_fetching_over_http(files, find):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write((files / self.path.lstrip("/")).read_bytes())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert len(find(address=f"http://127.0.0.1:{server.server_port}").train) == 6
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("damage", ["changed", "truncated", "not gzip"])
def test_a_wrong_download_is_refused_and_leaves_nothing(damage, files, find, cache):
    name = "train-images-idx3-ubyte.gz"
    whole = (files / name).read_bytes()
    wrong = {"changed": gzip.compress(b"other"), "truncated": whole[:-100], "not gzip": b"<html>"}[damage]
    (files / name).write_bytes(wrong)
    with pytest.raises(DataError, match=rf"/{name} is not the file that its authors published \(its SHA-256 differs\)"):
        find(address=files.as_uri())
    assert not any((cache / "fashion-mnist").iterdir())


def test_offline_the_message_says_how_to_get_it(find, cache, nowhere):
    with pytest.raises(DataError) as caught:
        find()
    message = str(caught.value)
    assert message.startswith(f"fashion-mnist is not on this machine and could not be fetched from {nowhere.as_uri()} (")
    assert "No such file or directory" in message
    assert "run `apt-get install dataset-fashion-mnist` (Debian, Ubuntu)" in message
    assert all(name in message for name in SHA256)
    assert message.endswith(f"into {cache / 'fashion-mnist'}")


def test_an_address_that_answers_nothing_is_named(find):
    with pytest.raises(DataError, match=r"could not be fetched from http://127\.0\.0\.1:9 \(.*refused"):
        find(address="http://127.0.0.1:9")


@pytest.mark.parametrize("content", [b"", b"\0\0", idx(np.zeros((2, 2)).astype(np.float32)), b"\x89PNG...."])
def test_what_is_not_idx_is_refused(tmp_path, content):
    (tmp_path / "x.gz").write_bytes(gzip.compress(content if content[:2] != b"\0\0" else b"\0\0\x0d" + content[3:]))
    with pytest.raises(DataError, match=r"x\.gz is not an IDX file of bytes: delete it and fetch it again$"):
        read_idx(tmp_path / "x.gz")


@pytest.mark.parametrize("damage", ["short", "cut", "not gzip", "no shape"])
def test_damaged_idx_is_refused(tmp_path, damage):
    whole = idx(np.random.RandomState(0).randint(256, size=(9, 5), dtype=np.uint8))
    damaged = {
        "short": gzip.compress(whole[:-1]),
        "cut": gzip.compress(whole)[:-12],
        "not gzip": whole,
        "no shape": gzip.compress(whole[:9]),
    }[damage]
    (tmp_path / "x.gz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"x\.gz is damaged or incomplete: delete it and fetch it again$"):
        read_idx(tmp_path / "x.gz")


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "x.gz").mkdir()
    with pytest.raises(DataError, match=r"x\.gz cannot be read \(Is a directory\): check its permissions$"):
        read_idx(tmp_path / "x.gz")


def test_files_that_do_not_belong_together_are_refused(files, find):
    (files / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(4, dtype=np.uint8))))
    with pytest.raises(DataError, match=r"^the t10k files in .* do not belong together \(images \(3, 28, 28\), labels"):
        find(debian=files)
