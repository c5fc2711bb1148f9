"""The service keeps what its OpenAPI promises, for generated requests that follow it and that do not."""

from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip("schemathesis", reason="the group `contract` is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

RUNS = Path(__file__).parents[1] / "fixtures" / "format1"
HEADERS = {"authorization": "Bearer a-token-of-24-characters"}
ROUTES = ("/v1/samples", "/v1/images/generations", "/v1/models", "/v1/models/{name}", "/health", "/ready", "/metrics")
CHECKS = ("status_code_conformance", "content_type_conformance", "response_headers_conformance", "response_schema_conformance")
GENERATED = settings(
    deadline=None, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def contract():
    from fastapi.testclient import TestClient

    from ancestral.app.web.service import Limits, Service, create_service

    service = Service([RUNS / "diffusion"], device="cpu", precision="fp32", limits=Limits(steps=20, seconds=60))
    app = create_service(service, token=HEADERS["authorization"].removeprefix("Bearer "), local=False)
    with TestClient(app):
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=HEADERS)
        yield {operation.ok().path: operation.ok() for operation in schema.get_all_operations()}


@pytest.fixture(scope="module")
def checks(contract):
    of_openapi = import_module("schemathesis.specs.openapi.checks")
    return [schemathesis.checks.not_a_server_error, *(getattr(of_openapi, name) for name in (*CHECKS, "unsupported_method"))]


def test_all_routes_are_tested(contract):
    assert set(contract) == set(ROUTES)


@pytest.mark.parametrize("examples", [15, pytest.param(40, marks=pytest.mark.long)])
@pytest.mark.parametrize("route", ROUTES)
def test_generated_requests_get_a_promised_answer(route, examples, contract, checks):
    """No error of the service, no status and no content that is not described."""

    @given(contract[route].as_strategy())
    @settings(GENERATED, max_examples=examples)
    def holds(case):
        case.call_and_validate(headers=HEADERS, checks=checks)

    holds()


@pytest.mark.parametrize("examples", [20, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize("route", ["/v1/samples", "/v1/images/generations"])
def test_requests_of_another_form_are_refused(route, examples, contract, checks):
    refused = import_module("schemathesis.specs.openapi.checks").negative_data_rejection

    @given(contract[route].as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    @settings(GENERATED, max_examples=examples)
    def holds(case):
        case.call_and_validate(headers=HEADERS, checks=[*checks, refused])

    holds()
