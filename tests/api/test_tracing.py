"""Traces are sent where the environment says so, and nowhere else."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from app import __version__
from app.api.tracing import open_tracing
from app.config import Settings
from app.main import create_app
from tests.api.collector import Collector, collecting
from tests.fakes import FakeModel, fake_info

ROOT = Path(__file__).parents[2]
SECRET = "confidential"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def serve(requests: int = 1) -> None:
    """From start-up to shutdown, with some requests between."""
    with TestClient(create_app(Settings(), models=[FakeModel(fake_info("news-en"))])) as client:
        for _ in range(requests):
            assert client.post("/summarize", json={"text": f"alpha {SECRET}"}).status_code == 200


def test_every_span_has_reached_the_collector_when_the_service_has_stopped(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINT, collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    serve(requests=3)
    assert sorted(span.name for span in collector.spans) == 3 * ["POST /summarize"] + sorted(
        3 * ["queue", "encode", "decode"]
    )
    assert set(collector.paths) == {"/v1/traces"}
    assert {key: collector.resource[key] for key in ("service.name", "service.version")} == {
        "service.name": "precis",
        "service.version": __version__,
    }
    assert SECRET.encode() not in b"".join(collector.bodies)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_SERVICE_NAME", "headlines"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=headlines,place=cellar")],
)
def test_the_environment_names_the_service(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/own/path")
    monkeypatch.setenv(variable, value)
    serve()
    assert collector.resource["service.name"] == "headlines"
    assert collector.paths == ["/own/path"]


def test_the_sampler_is_the_environments(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, collector.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    serve()
    assert collector.bodies == []


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: NOWHERE, "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: NOWHERE, "OTEL_SDK_DISABLED": "True"},
        {ENDPOINT: NOWHERE, "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SERVICE_NAME": "precis", "OTEL_TRACES_EXPORTER": "otlp"},
    ],
)
def test_without_a_collector_or_with_a_word_against_it_nothing_is_traced(environment: dict[str, str]) -> None:
    with capture_logs() as logged:
        assert open_tracing(environment) is None
    assert logged == []


def test_a_variable_that_is_wrong_costs_the_traces_and_not_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, NOWHERE)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with capture_logs() as logged:
        serve()
    (line,) = [line for line in logged if line["event"].startswith("no traces")]
    assert "max_queue_size" in line["reason"]


def test_a_collector_that_is_away_fails_no_request_and_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.api.spans.CLOSING_SECONDS", 0.01)
    monkeypatch.setenv(ENDPOINT, NOWHERE)
    serve()


WITHOUT_THE_EXTRA = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Blocked())
from starlette.testclient import TestClient
from app.config import Settings
from app.main import create_app
from tests.fakes import FakeModel

with TestClient(create_app(Settings(model="fake"), models=[FakeModel()])) as client:
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    assert client.post("/summarize", json={"text": "alpha"}, headers=headers).status_code == 200
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
"""


@pytest.mark.parametrize("environment", [{}, {ENDPOINT: NOWHERE}], ids=["not wanted", "wanted"])
def test_without_the_extra_the_service_serves_and_says_what_is_missing(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("no traces" in done.stdout) == bool(environment)
    assert ("opentelemetry" in done.stdout) == bool(environment)
    assert "trace_id=0af7651916cd43dd8448eb211c80319c" in re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
