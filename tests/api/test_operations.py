import sys
from typing import Any, NoReturn

import pytest
from starlette.testclient import TestClient

from app.api.service import Service
from tests.api.waiting import eventually
from tests.fakes import UNENCODABLE, FakeModel

NAMES = (
    "precis_requests_total",
    "precis_request_seconds_bucket",
    "precis_event_loop_lag_seconds_bucket",
    "precis_queue_texts",
    "precis_live_rows",
    "precis_slot_occupancy",
    "precis_padding_efficiency",
    "precis_first_token_seconds_bucket",
    "precis_token_seconds_bucket",
    "precis_refused_total",
    "precis_cancelled_total",
    "precis_worker_restarts_total",
)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
def test_a_service_that_works_is_well(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/readyz", "/health"])
def test_a_service_that_stops_is_alive_but_not_ready(client: TestClient, service: Service, path: str) -> None:
    service.draining = True
    response = client.get(path)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1
    assert client.get("/livez").status_code == 200


def test_the_metrics_tell_whether_it_is_ready_and_its_default_deadline(client: TestClient, service: Service) -> None:
    assert "\nprecis_ready 1.0\n" in client.get("/metrics").text
    service.draining = True
    text = client.get("/metrics").text
    assert "\nprecis_ready 0.0\n" in text
    assert "\nprecis_deadline_seconds 60.0\n" in text


@pytest.mark.parametrize("path", ["/readyz", "/health"])
def test_a_service_whose_worker_is_dead_is_alive_but_not_ready(
    client: TestClient, model: FakeModel, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def refuse(_capacity: int) -> NoReturn:
        raise RuntimeError("no memory on the device")

    assert client.post("/summarize", json={"text": "alpha"}).status_code == 200
    monkeypatch.setattr(model, "open", refuse)  # the next worker cannot even begin
    model.before_step = lambda _rows: sys.exit()
    assert client.post("/summarize", json={"text": "alpha"}).status_code == 500
    eventually(lambda: client.get(path).status_code == 503)
    assert client.get("/livez").status_code == 200
    assert client.post("/summarize", json={"text": "alpha"}).status_code == 503


@pytest.mark.parametrize("path", ["/summarize", "/summarize/batch", "/attention"])
def test_a_service_that_stops_refuses_work_but_tells_of_itself(client: TestClient, service: Service, path: str) -> None:
    service.draining = True
    body = {"texts": ["alpha"]} if path.endswith("batch") else {"text": "alpha"}
    response = client.post(path, json=body)
    assert response.status_code == 503
    assert response.json()["error_type"] == "draining"
    assert int(response.headers["retry-after"]) >= 1
    assert 'precis_refused_total{reason="draining"} 1.0' in client.get("/metrics").text
    assert client.get("/models/news-en").status_code == 200


def test_every_promised_metric_is_there_after_a_summary(client: TestClient) -> None:
    client.post("/summarize", json={"text": "alpha"})
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    names = {line.split("{")[0].split(" ")[0] for line in response.text.splitlines() if not line.startswith("#")}
    assert set(NAMES) <= names
    assert 'precis_requests_total{route="/summarize",status="200"} 1.0' in response.text
    assert 'precis_first_token_seconds_count{model="news-en"} 1.0' in response.text


def test_routes_are_counted_by_template_so_that_callers_cannot_make_new_series(client: TestClient) -> None:
    for path in ("/a", "/b", "/models/c", "/models/d"):
        client.get(path)
    text = client.get("/metrics").text
    assert 'precis_requests_total{route="unmatched",status="404"} 2.0' in text
    assert 'precis_requests_total{route="/models/{name}",status="404"} 2.0' in text


def test_what_is_too_large_is_counted_as_refused(client: TestClient) -> None:
    client.post("/summarize", json={"text": "a" * 2001})
    assert 'precis_refused_total{reason="too_large"} 1.0' in client.get("/metrics").text


SECRET = "s3cret-t0ken"
WRONG: list[tuple[int, str, str, dict[str, Any]]] = [
    (400, "POST", "/summarize", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    (404, "GET", "/nowhere", {}),
    (404, "POST", "/summarize", {"json": {"text": "alpha", "model": "nope"}}),
    (405, "DELETE", "/summarize", {}),
    (413, "POST", "/summarize", {"json": {"text": "a" * 2001}}),
    (415, "POST", "/attention", {"content": b"alpha"}),
    (422, "POST", "/attention", {"json": {"text": "", "colour": 1}}),
    (500, "POST", "/summarize", {"json": {"text": UNENCODABLE}}),
]


def test_what_stands_in_authorization_is_in_no_error_and_no_metric(client: TestClient) -> None:
    client.headers["Authorization"] = f"Bearer {SECRET}"
    answers = [(status, client.request(method, path, **sent)) for status, method, path, sent in WRONG]
    assert [answer.status_code for _, answer in answers] == [status for status, _ in answers]
    answers.append((200, client.get("/metrics")))
    assert [answer.url.path for _, answer in answers if SECRET in f"{answer.headers} {answer.text}"] == []
