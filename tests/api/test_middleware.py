"""What every answer has in common: ids, headers, HEAD, the log line and the last resort."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from app.api.middleware import Envelope
from app.api.service import Service
from tests.api.asgi import exchange
from tests.api.sockets import served
from tests.fakes import UNENCODABLE

SECRET = "alpha whiskey confidential"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def request_lines(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "request"]


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 128])
@pytest.mark.parametrize(("method", "path"), [("GET", "/livez"), ("POST", "/summarize"), ("GET", "/nope")])
def test_a_well_formed_request_id_is_kept_echoed_and_logged(
    client: TestClient, logged: list[Any], method: str, path: str, given: str
) -> None:
    response = client.request(method, path, headers={"X-Request-ID": given})
    assert response.headers["x-request-id"] == given
    assert [line["request_id"] for line in request_lines(logged)] == [given]
    if response.status_code >= 400:
        assert response.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, "a\tb", "<script>", "a,b", "a/b", "é"])
def test_another_request_id_is_replaced(client: TestClient, given: str) -> None:
    response = client.get("/livez", headers={b"X-Request-ID": given.encode("latin-1")})
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_every_request_gets_an_id_of_its_own(client: TestClient) -> None:
    assert len({client.get("/livez").headers["x-request-id"] for _ in range(5)}) == 5


@pytest.mark.parametrize("path", ["/livez", "/nope", "/docs", "/models"])
def test_no_answer_may_be_taken_for_another_type(client: TestClient, path: str) -> None:
    assert client.get(path).headers["x-content-type-options"] == "nosniff"


PATHS = [
    "/livez",
    "/readyz",
    "/health",
    "/models",
    "/models/news-en",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/docs/start.js",
]


@pytest.mark.parametrize("path", PATHS)
def test_head_answers_like_get_without_the_body(client: TestClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # counts its own requests
        assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    ("path", "status"), [("/livez", 200), ("/nope", 404), ("/summarize", 405), ("/models/nope", 503), ("/livez?a", 422)]
)
def test_nothing_of_a_body_is_sent_for_head(app: FastAPI, path: str, status: int) -> None:
    answer = asyncio.run(exchange(app, "HEAD", path, {}, iter(())))
    assert (answer.status, answer.body) == (status, b"")
    assert int(answer.headers["content-length"]) > 0


def test_one_line_a_request_says_what_it_was_and_never_its_text(client: TestClient, logged: list[Any]) -> None:
    headers = {"Authorization": "Bearer secret", "X-Request-ID": "mine"}
    client.post("/summarize/batch", json={"texts": [SECRET, "golf"]}, headers=headers)
    (line,) = request_lines(logged)
    assert line["ms"] > 0
    assert {name: line[name] for name in line if name != "ms"} == {
        "event": "request",
        "log_level": "info",
        "method": "POST",
        "route": "/summarize/batch",
        "status": 200,
        "request_id": "mine",
        "key": None,
        "texts": 2,
        "characters": len(SECRET) + 4,
        "error": None,
    }


def test_the_log_names_the_route_not_the_path(client: TestClient, logged: list[Any]) -> None:
    client.get("/models/news-en")
    client.get("/some/where?else=1")
    client.head("/livez")
    client.put("/livez")
    lines = [(line["method"], line["route"], line["status"]) for line in request_lines(logged)]
    assert lines == [
        ("GET", "/models/{name}", 200),
        ("GET", "unmatched", 404),
        ("HEAD", "/livez", 200),
        ("PUT", "/livez", 405),
    ]


def test_an_error_is_logged_by_its_kind(client: TestClient, logged: list[Any]) -> None:
    client.post("/summarize", json={"text": f"{SECRET} {UNENCODABLE}"})
    (line,) = request_lines(logged)
    assert (line["status"], line["error"], line["log_level"]) == (500, "model-failed", "error")


def test_the_trace_of_the_caller_is_continued_in_the_log(client: TestClient, logged: list[Any]) -> None:
    client.get("/livez", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    (line,) = request_lines(logged)
    assert (line["trace_id"], line["parent_id"]) == (TRACE, PARENT)
    assert re.fullmatch("[0-9a-f]{16}", line["span_id"])
    assert line["span_id"] != PARENT


@pytest.mark.parametrize(
    "header",
    ["", "00", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-01"],
)
def test_a_malformed_trace_is_ignored(client: TestClient, logged: list[Any], header: str) -> None:
    assert client.get("/livez", headers={"traceparent": header}).status_code == 200
    assert "trace_id" not in request_lines(logged)[0]


def test_what_nobody_foresaw_is_a_problem_that_tells_nothing(
    client: TestClient, service: Service, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_name: object) -> None:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr(service, "engine", fail)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    response = client.post("/summarize", json={"text": SECRET}, headers=headers)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == response.json()["request_id"]
    assert response.json()["error_type"] == "internal-error"
    unforeseen, line = logged
    assert unforeseen["kind"] == "ZeroDivisionError"
    assert unforeseen["trace_id"] == line["trace_id"] == TRACE
    assert any("fail" in frame for frame in unforeseen["frames"])
    assert line["status"] == 500
    assert SECRET not in response.text + str(logged)


def test_an_answer_that_breaks_off_is_logged_as_500_without_what_was_raised(
    service: Service, logged: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        raise ZeroDivisionError(SECRET)

    app = FastAPI()
    app.state.service = service
    app.mount("/", broken)
    app.add_middleware(Envelope, service=service, tracing=None)
    with served(app) as server, pytest.raises(httpx2.RemoteProtocolError):
        httpx2.get(server.url)
    unforeseen, line = (each for each in logged if each["event"] in ("unforeseen", "request"))
    assert (unforeseen["kind"], line["status"], line["log_level"]) == ("ZeroDivisionError", 500, "error")
    assert SECRET not in str(logged) + caplog.text


def test_a_caller_who_leaves_is_counted_as_499(app: FastAPI, service: Service, logged: list[Any]) -> None:
    headers = {"Content-Type": "application/json"}
    asyncio.run(exchange(app, "POST", "/summarize", headers, iter([b"{"]), leaves=True))
    assert [line["status"] for line in request_lines(logged)] == [499]
    assert service.metrics.requests.labels("/summarize", "499")._value.get() == 1


def test_an_answer_that_the_server_cancels_is_counted_as_499(service: Service, logged: list[Any]) -> None:
    async def cancelled(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError

    envelope = Envelope(cancelled, service=service, tracing=None)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(exchange(envelope, "GET", "/", {}, iter([b""])))
    assert [line["status"] for line in request_lines(logged)] == [499]


def test_while_draining_callers_are_told_to_connect_elsewhere(client: TestClient, service: Service) -> None:
    assert "connection" not in client.get("/livez").headers
    service.draining = True
    assert client.get("/livez").headers["connection"] == "close"
