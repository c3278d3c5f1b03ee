"""What a proxy could spoil: streams, callers who leave, request ids, headers and bodies."""

import json
import re
import socket
from collections.abc import Iterator

import httpx2
import pytest

from tests.api.waiting import PATIENCE, eventually
from tests.ray.conftest import Deployed

LONG = {"text": "alpha bravo charlie", "parameters": {"num_beams": 1, "min_length": 20, "max_length": 40}}
WORDS = {"Content-Type": "application/json"}


@pytest.fixture
def held(service: Deployed) -> Iterator[Deployed]:
    service.hold()
    yield service
    service.go_on()


def post(service: Deployed, **body: object) -> socket.socket:
    """A caller who has asked for a summary."""
    content = json.dumps(body).encode()
    address = httpx2.URL(service.url)
    caller = socket.create_connection((address.host, address.port), PATIENCE)
    head = f"POST /summarize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    caller.sendall(f"{head}\r\n\r\n".encode() + content)
    return caller


def left(service: Deployed) -> float:
    """How many callers have left before they were answered."""
    counts = re.findall(r'^precis_requests_total\{.*status="499"\} (\S+)$', service.get("/metrics").text, re.MULTILINE)
    return sum(map(float, counts))


def test_a_token_comes_before_the_next_step(held: Deployed) -> None:
    with post(held, **LONG, stream=True) as caller, caller.makefile("rb") as answer:
        eventually(lambda: held.metric("precis_live_rows") == 1)
        held.step()
        assert any(line.startswith(b"event: token") for line in answer)
        assert held.metric("precis_live_rows") == 1, "it is not over yet"
        held.go_on()
        assert any(line.startswith(b"event: done") for line in answer)


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_frees_its_rows_within_a_step(held: Deployed, stream: bool) -> None:
    before = left(held)
    with post(held, **LONG, stream=stream):
        eventually(lambda: held.metric("precis_live_rows") == 1)
    eventually(lambda: left(held) == before + 1)
    held.step()
    eventually(lambda: held.metric("precis_live_rows") == 0)


def test_a_callers_request_id_is_told_once_and_stands_in_the_answer(service: Deployed) -> None:
    response = httpx2.post(f"{service.url}/summarize", json=LONG, headers={"X-Request-ID": "mine-1"}, timeout=PATIENCE)
    assert response.headers.get_list("x-request-id") == ["mine-1"]
    assert response.json()["id"] == "mine-1"


def test_without_one_the_same_id_is_told_everywhere(service: Deployed) -> None:
    response = httpx2.post(f"{service.url}/summarize", content=b"{", headers=WORDS, timeout=PATIENCE)
    (told,) = response.headers.get_list("x-request-id")
    assert response.status_code == 400
    assert response.json()["request_id"] == told


def test_the_headers_of_an_answer_are_the_services_own(service: Deployed) -> None:
    response = httpx2.post(f"{service.url}/summarize", json=LONG, timeout=PATIENCE)
    assert response.headers["server-timing"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert len(response.headers) == len(response.headers.multi_items()), "none twice"


def test_a_body_of_megabytes_is_read_and_one_that_is_too_large_refused(service: Deployed) -> None:
    texts = ["alpha " * 30_000] * 40  # 7 MB
    batch = {"texts": texts, "parameters": {"num_beams": 1, "max_length": 1}}
    response = httpx2.post(f"{service.url}/summarize/batch", json=batch, timeout=PATIENCE)
    assert [bool(result["summary"]) for result in response.json()["results"]] == [True] * len(texts)
    response = httpx2.post(f"{service.url}/summarize", json={"text": "a" * 10_000_000}, timeout=PATIENCE)
    assert response.status_code == response.json()["status"] == 413


def test_many_connections_share_the_replica(service: Deployed) -> None:
    """More than Ray lets through at once by itself."""
    service.hold()
    try:
        callers = [post(service, **LONG) for _ in range(100)]
        eventually(lambda: service.metric("precis_live_rows") + service.metric("precis_queue_texts") == len(callers))
    finally:
        service.go_on()
    for caller in callers:
        with caller:
            assert caller.recv(12) == b"HTTP/1.1 200"
