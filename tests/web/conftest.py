"""A studio with a small run, a client that has its token, and a browser."""

import pytest

pytest.importorskip("fastapi", reason="the extra `studio` is not installed")

from fastapi.testclient import TestClient

import ancestral as an
from ancestral.app.web import Studio, create_app


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with one run: a small diffusion model of digits with classes."""
    home = tmp_path_factory.mktemp("runs")
    settings = ("model.width=16", "train.previews=2", "train.batch=16", "train.diagnoses=1")
    an.train("digits", budget="60it", out=home / "digits", condition="class", settings=settings, quiet=True)
    return home


@pytest.fixture
def studio(trained):
    return Studio([trained], device="cpu")


@pytest.fixture
def client(studio):
    with TestClient(create_app(studio), base_url="http://127.0.0.1:1") as found:
        found.headers["authorization"] = f"Bearer {studio.token}"
        yield found
