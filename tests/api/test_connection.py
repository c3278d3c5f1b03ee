"""What a connection does that only a process on the inside can bring about."""

import re
import socket
from contextlib import ExitStack

import httpx2
import pytest
from fastapi import FastAPI

from app import connection
from app.api.line import Line
from app.api.service import Service
from tests.api.sockets import served
from tests.api.waiting import PATIENCE, eventually

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


def test_where_not_even_spare_places_are_left_callers_are_refused_before_they_ask(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SPARE_CONNECTIONS", 1)
    monkeypatch.setattr(connection, "SPARE_SECONDS", PATIENCE)
    with served(app) as there, ExitStack() as stack:
        there.server.config.limit_concurrency = 2
        callers = [stack.enter_context(_connected(there.port)) for _ in range(2 + 1)]
        eventually(lambda: len(there.server.server_state.connections) == len(callers))
        answer = stack.enter_context(_connected(there.port)).makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert re.search(rb"\r\nRetry-After: [1-9]", answer)
        callers[2].sendall(GET + b"\r\n")
        assert callers[2].makefile("rb").read().startswith(b"HTTP/1.1 200 ")


def test_where_callers_wait_too_long_for_their_turn_new_ones_are_refused_and_stay_connected(
    app: FastAPI, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Line, "too_long", True)
    with served(app) as there, httpx2.Client(base_url=there.url, timeout=PATIENCE) as caller:
        refused = caller.post("/summarize", json={"text": "alpha"}, headers={"X-Request-ID": "mine"})
        assert refused.status_code == 503
        assert refused.json()["error_type"] == "overloaded"
        assert refused.json()["instance"] == "/summarize"
        assert refused.json()["request_id"] == refused.headers["x-request-id"] == "mine"
        assert int(refused.headers["retry-after"]) >= 1
        assert caller.get("/livez").status_code == caller.get("/metrics").status_code == 200
        monkeypatch.setattr(Line, "too_long", False)
        assert caller.post("/summarize", json={"text": "alpha"}).status_code == 200
        assert len(there.server.server_state.connections) == 1
    assert service.metrics.refused.labels("busy")._value.get() == 1
    assert service.metrics.requests.labels("unmatched", "503")._value.get() == 1


def test_answers_that_nobody_takes_never_hold_more_together_than_there_is_room_for(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.Protocol, "unsent", property(lambda _: 200 << 20))
    with served(app) as there, _connected(there.port) as first, _connected(there.port) as second:
        first.sendall(GET)
        second.sendall(GET)
        eventually(lambda: len(there.server.server_state.connections) == 1)


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
