"""What the spans of a request say, and that they say nothing else."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from app.api.service import Service
from app.api.spans import Spans, phases
from app.config import Settings
from app.engine.request import Timing
from app.main import create_app
from tests.fakes import UNENCODABLE, WORDS, FakeModel, fake_info

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRET = "confidential"
MILLISECOND = 1_000_000  # nanoseconds
ROUNDING = 2_000  # nanoseconds: the timing object has three decimals of a millisecond


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def app(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("app.main.open_tracing", lambda _environment: Spans(provider))
    return create_app(Settings(max_rows=8), models=[FakeModel(fake_info("news-en"))])


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def the_span(exporter: InMemorySpanExporter) -> ReadableSpan:
    """Of the only request."""
    (span,) = [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]
    return span


def children(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans() if span.kind is SpanKind.INTERNAL}


def moments(span: ReadableSpan) -> tuple[int, int]:
    """Beginning and end."""
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def test_a_request_is_one_server_span_with_the_attributes_of_http(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    client.post("/summarize", json={"text": "alpha bravo"}, headers={"X-Request-ID": "mine"})
    span = the_span(exporter)
    assert span.name == "POST /summarize"
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/summarize",
        "network.protocol.version": "1.1",
        "url.scheme": "http",
        "precis.request_id": "mine",
        "precis.texts": 1,
        "precis.characters": 11,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None


def test_its_children_are_the_phases_of_the_timing_object_one_after_the_other(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    timing = client.post("/summarize", json={"text": "alpha bravo"}).json()["timing"]
    span, parts = the_span(exporter), children(exporter)
    assert list(parts) == ["queue", "encode", "decode"]
    for name, child in parts.items():
        assert child.parent == span.get_span_context()
        begins, ends = moments(child)
        assert ends - begins == pytest.approx(timing[f"{name}_ms"] * MILLISECOND, abs=ROUNDING)
    queue, encode, decode = map(moments, parts.values())
    assert moments(span)[0] <= queue[0] <= queue[1] == encode[0] <= encode[1] == decode[0] <= decode[1]
    assert decode[1] <= moments(span)[1]


@pytest.mark.parametrize("path", ["/summarize", "/attention"])
def test_a_long_text_in_parts_has_one_set_of_phases(
    client: TestClient, exporter: InMemorySpanExporter, path: str
) -> None:
    text = " ".join(["alpha bravo charlie."] * 12)
    assert client.post(path, json={"text": text, "truncation": "chunk"}).json()["parts"][1]
    assert len(exporter.get_finished_spans()) == 4


def test_a_batch_has_the_phases_of_the_text_that_took_longest(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    texts = ["", *WORDS]  # more than there are rows: some wait
    results = client.post("/summarize/batch", json={"texts": texts}).json()["results"]
    longest = max(result["timing"]["total_ms"] for result in results if "timing" in result)
    queue, _, decode = map(moments, children(exporter).values())
    assert decode[1] - queue[0] == pytest.approx(longest * MILLISECOND, abs=ROUNDING)
    assert attributes(the_span(exporter))["precis.texts"] == len(WORDS)


def test_a_trace_is_continued_and_its_ids_are_logged(client: TestClient, exporter: InMemorySpanExporter) -> None:
    with capture_logs() as logged:
        client.get("/livez", headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b"})
    span = the_span(exporter)
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    context = span.get_span_context()
    assert context is not None
    assert context.trace_state["a"] == "b"
    (line,) = [line for line in logged if line["event"] == "request"]
    assert (line["trace_id"], line["span_id"]) == (TRACE, f"{context.span_id:016x}")
    assert line["parent_id"] == PARENT


def test_without_a_trace_to_continue_the_log_has_the_new_one(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    with capture_logs() as logged:
        client.get("/livez")
    context = the_span(exporter).get_span_context()
    (line,) = [line for line in logged if line["event"] == "request"]
    assert context is not None
    assert (line["trace_id"], line["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert "parent_id" not in line


def test_what_the_caller_does_not_sample_is_not_sent_but_logged(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    with capture_logs() as logged:
        client.get("/livez", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert exporter.get_finished_spans() == ()
    assert [line["trace_id"] for line in logged if line["event"] == "request"] == [TRACE]


@pytest.mark.parametrize(
    ("method", "path", "name", "status"),
    [
        ("GET", f"/models/{SECRET}", "GET /models/{name}", 404),
        ("GET", f"/{SECRET}?{SECRET}=1", "GET", 404),
        ("HEAD", "/livez", "HEAD /livez", 200),
        ("PUT", "/summarize", "PUT /summarize", 405),
        (SECRET.upper(), "/livez", "HTTP /livez", 405),
    ],
)
def test_a_name_holds_nothing_that_the_caller_made_up(
    client: TestClient, exporter: InMemorySpanExporter, method: str, path: str, name: str, status: int
) -> None:
    assert client.request(method, path).status_code == status
    assert the_span(exporter).name == name
    assert SECRET not in str(the_span(exporter).to_json()).lower()


def test_texts_keys_and_addresses_stay_out_of_the_spans(client: TestClient, exporter: InMemorySpanExporter) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": SECRET, "User-Agent": SECRET, "Host": SECRET}
    for body in ({"text": SECRET}, {"text": SECRET, SECRET: 1}, {"text": SECRET, "model": SECRET}):
        client.post("/summarize", json=body, headers=headers)
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_our_own_failures_are_errors_and_the_callers_are_not(
    client: TestClient, exporter: InMemorySpanExporter
) -> None:
    assert client.post("/summarize", json={"text": ""}).status_code == 422
    assert the_span(exporter).status.status_code is StatusCode.UNSET
    exporter.clear()
    assert client.post("/summarize", json={"text": UNENCODABLE}).status_code == 500
    span = the_span(exporter)
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert attributes(span)["error.type"] == "model-failed"
    assert children(exporter) == {}


def test_a_refusal_is_an_error_with_its_reason(
    client: TestClient, app: FastAPI, exporter: InMemorySpanExporter
) -> None:
    service: Service = app.state.service
    service.draining = True
    assert client.post("/summarize", json={"text": "alpha"}).status_code == 503
    assert attributes(the_span(exporter))["error.type"] == "draining"


milliseconds = st.floats(0, 1e6)


@given(milliseconds, milliseconds, milliseconds, milliseconds)
def test_phases_follow_each_other_and_end_together_whatever_the_sums(
    queue: float, encode: float, decode: float, working: float
) -> None:
    told = list(phases(Timing(queue, encode, decode, queue + working)))
    edges = [edge for _, begins, ends in told for edge in (begins, ends)]
    assert edges == sorted(edges, reverse=True)
    assert edges[1:5:2] == edges[2:6:2]
    assert edges[-1] == 0
