"""What `/summarize` answers with `stream`, on the fake model: in this process, and over real sockets."""

import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from http.client import HTTPResponse
from typing import Any

import httpx2
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray
from starlette.testclient import TestClient

from app import schemas
from app.api import stream
from app.api.service import Service
from app.config import Settings
from app.engine.engine import Engine
from app.main import create_app
from tests import fakes
from tests.api.events import Event, events_of
from tests.api.sockets import Served, served
from tests.api.waiting import PATIENCE, eventually
from tests.engine.running import Clock
from tests.fakes import NOT_A_NUMBER, UNENCODABLE, UNSTEPPABLE, FakeModel, Row

TEXT = "alpha bravo charlie delta echo foxtrot"
Wait = Callable[[stream.Feed], Coroutine[Any, Any, None]]
LONG = "alpha bravo charlie. " * 30


def streamed(client: TestClient, **body: Any) -> list[Event]:
    response = client.post("/summarize", json={"text": TEXT, "stream": True, **body})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    return list(events_of(response.text.split("\n")))


def tokens_of(events: list[Event]) -> list[dict[str, Any]]:
    return [data for name, data in events if name == "token"]


def greedy(client: TestClient, path: str = "/summarize", **body: Any) -> dict[str, Any]:
    response = client.post(path, json={"text": TEXT, "parameters": {"num_beams": 1}, **body})
    content: dict[str, Any] = response.json()
    return content


def without_timing(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name not in ("id", "timing")}


def test_tokens_come_then_the_summary_then_the_end(client: TestClient) -> None:
    events = streamed(client)
    tokens = tokens_of(events)
    assert [name for name, _ in events] == ["token"] * len(tokens) + ["summary", "done"]
    assert all(schemas.TokenEvent.model_validate(token).model_dump() == token for token in tokens)
    summary = events[-2][1]
    assert schemas.Summary.model_validate(summary).model_dump(exclude_unset=True) == summary
    assert len(tokens) == summary["usage"]["summary_tokens"]


@pytest.mark.parametrize(("text", "truncation"), [(TEXT, "head"), (LONG, "chunk")])
def test_the_pieces_are_the_summary(client: TestClient, text: str, truncation: str) -> None:
    events = streamed(client, text=text, truncation=truncation)
    summary = events[-2][1]
    assert "".join(token["text"] for token in tokens_of(events)) == summary["summary"]
    for token in tokens_of(events):
        assert token["text"] == summary["summary"][token["start"] : token["end"]]


@pytest.mark.parametrize(("text", "truncation"), [(TEXT, "head"), (LONG, "chunk")])
def test_the_summary_is_the_one_without_stream(client: TestClient, text: str, truncation: str) -> None:
    summary = streamed(client, text=text, truncation=truncation)[-2][1]
    assert without_timing(summary) == without_timing(greedy(client, text=text, truncation=truncation))


@pytest.mark.parametrize(("text", "truncation"), [(TEXT, "head"), (LONG, "chunk")])
def test_log_probabilities_and_sources_are_those_of_attention(client: TestClient, text: str, truncation: str) -> None:
    tokens = tokens_of(streamed(client, text=text, truncation=truncation))
    attention = greedy(client, "/attention", text=text, truncation=truncation, format="top")["attention"]
    told = [item["log_probability"] for item in attention["summary_tokens"]]
    assert [token["log_probability"] for token in tokens] == told
    spans = [{name: item[name] for name in ("start", "end")} for item in attention["source_tokens"]]
    largest = [[{**spans[one["source"]], "weight": one["weight"]} for one in row] for row in attention["top"]]
    assert [token["sources"] for token in tokens] == largest


@pytest.mark.parametrize("parameters", [{}, {"num_beams": 1}, {"num_beams": None}])
def test_without_a_word_about_beams_there_is_one(
    client: TestClient, model: FakeModel, parameters: dict[str, Any]
) -> None:
    assert model.info.defaults.num_beams > 1
    assert streamed(client, parameters=parameters)[-1] == ("done", {})
    assert {len(rows) for rows in model.steps} == {1}


def test_several_beams_are_422(client: TestClient) -> None:
    response = client.post("/summarize", json={"text": TEXT, "stream": True, "parameters": {"num_beams": 2}})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ["/parameters/num_beams"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"text": " "}, 422),
        ({"text": "alpha " * 70, "truncation": "error"}, 422),
        ({"text": "\u200b"}, 422),
        ({"text": "a" * 2001}, 413),
        ({"model": "nope"}, 404),
        ({"text": UNENCODABLE}, 500),
        ({"text": NOT_A_NUMBER}, 500),
    ],
)
def test_what_goes_wrong_before_the_first_token_has_a_status(
    client: TestClient, change: dict[str, Any], status: int
) -> None:
    response = client.post("/summarize", json={"text": TEXT, "stream": True, **change})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


def test_a_refusal_is_no_stream(client: TestClient, service: Service) -> None:
    service.draining = True
    response = client.post("/summarize", json={"text": TEXT, "stream": True})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1


def test_nobody_waits_for_an_engine_that_hangs(
    client: TestClient, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MARGIN_SECONDS", 0.01)
    model.gate.close()
    response = client.post("/summarize", json={"text": TEXT, "stream": True, "timeout_ms": 1})
    assert (response.status_code, response.json()["error_type"]) == (504, "deadline-exceeded")
    assert len(model.states) == 1, "the engine still hangs"
    model.gate.open()
    eventually(lambda: model.occupied == 0)


def test_only_post_streams(client: TestClient) -> None:
    for method in ("HEAD", "GET"):
        response = client.request(method, "/summarize")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_stream_is_neither_stored_nor_held_up_on_its_way(client: TestClient) -> None:
    headers = client.post("/summarize", json={"text": TEXT, "stream": True}).headers
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
    assert headers["x-request-id"]


def test_an_empty_summary_is_streamed(client: TestClient, model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "distribution", _ending_at_once)
    assert [name for name, _ in streamed(client)] == ["summary", "done"]
    assert model.steps


def test_a_text_that_runs_again_is_told_once(client: TestClient, model: FakeModel) -> None:
    expected = tokens_of(streamed(client))
    model.gate.close()
    with ThreadPoolExecutor(2) as pool:
        steps = len(model.steps)
        told = pool.submit(streamed, client)
        model.gate.wait_for_arrival(steps + 1)
        model.gate.allow(1)
        model.gate.wait_for_arrival(steps + 2)  # so that whoever comes now has to wait
        poison = pool.submit(client.post, "/summarize", json={"text": UNSTEPPABLE})
        queued = client.app.state.service.metrics.queue_texts.labels("news-en")  # type: ignore[attr-defined]
        eventually(lambda: queued._value.get() == 1)
        model.gate.open()
        assert poison.result().status_code == 500
        assert tokens_of(told.result()) == expected
    assert len(model.states) > 1, "the batch was given up"


# --- Over a socket, the model held between two steps ---


@pytest.fixture
def held(model: FakeModel) -> FakeModel:
    """Every step but the first waits to be let through."""
    model.gate.close()
    model.gate.allow(1)
    return model


def test_the_first_token_comes_before_the_second_step_ends(app: FastAPI, held: FakeModel) -> None:
    with served(app) as server, post(server) as response:
        events = events_of(response.iter_lines())
        name, first = next(events)
        assert (name, first["start"]) == ("token", 0)
        assert len(held.steps) == 1
        held.gate.allow(1)
        assert next(events)[1]["start"] == first["end"]
        assert len(held.steps) == 2
        held.gate.open()
        assert [name for name, _ in events][-2:] == ["summary", "done"]


def test_a_stream_is_counted_when_it_ends(app: FastAPI, service: Service, held: FakeModel) -> None:
    counted = service.metrics.requests.labels("/summarize", "200")
    with served(app) as server, post(server) as response:
        events = events_of(response.iter_lines())
        next(events)
        assert counted._value.get() == 0
        held.gate.open()
        assert len(list(events)) > 1
        eventually(lambda: counted._value.get() == 1)


def test_a_reader_who_leaves_frees_the_row_within_one_step(app: FastAPI, service: Service, held: FakeModel) -> None:
    with served(app) as server:
        with post(server) as response:
            next(events_of(response.iter_lines()))
            held.gate.wait_for_arrival(2)
        eventually(lambda: service.metrics.requests.labels("/summarize", "499")._value.get() == 1)
        assert held.occupied == 1
        held.gate.allow(1)  # the step that is running; no further one is needed
        eventually(lambda: held.occupied == 0)
        assert len(held.steps) == 2
        assert service.metrics.cancelled._value.get() == 1
        held.gate.open()


def test_a_failure_after_the_first_token_is_an_event(app: FastAPI, service: Service, model: FakeModel) -> None:
    model.before_step = _fail_at_the_second_token
    with served(app) as server, post(server) as response:
        assert response.status_code == 200
        (first, _), (failed, problem), end = events_of(response.iter_lines())
    assert (first, failed, end) == ("token", "error", ("done", {}))
    assert schemas.Problem.model_validate(problem).model_dump() == problem
    assert (problem["status"], problem["request_id"]) == (500, response.headers["x-request-id"])
    assert service.metrics.requests.labels("/summarize", "500")._value.get() == 1


def test_a_deadline_that_passes_after_the_first_token_is_an_event(settings: Settings, held: FakeModel) -> None:
    clock = Clock()
    app = create_app(settings, models=[])
    app.state.service.add(Engine(held, max_rows=8, max_queue=8, clock=clock))
    with served(app) as server, post(server) as response:
        events = events_of(response.iter_lines())
        assert next(events)[0] == "token"
        held.gate.wait_for_arrival(2)
        clock.now += 3600
        held.gate.open()
        *_, (name, problem), end = events
    assert (name, problem["status"], problem["error_type"]) == ("error", 504, "deadline-exceeded")
    assert end == ("done", {})


def test_an_engine_that_hangs_after_the_first_token_is_an_event(
    app: FastAPI, held: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds: list[stream.Feed] = []
    monkeypatch.setattr(stream.Feed, "wait", _remember(feeds, stream.Feed.wait))
    with served(app) as server, post(server) as response:
        events = events_of(response.iter_lines())
        assert next(events)[0] == "token"
        feeds[0].end()  # as the clock does in the end
        (name, problem), end = events
        assert (name, problem["status"], end) == ("error", 504, ("done", {}))
        held.gate.open()


def test_what_is_not_written_when_the_grace_ends_is_an_event(held: FakeModel) -> None:
    app = create_app(Settings(drain_seconds=0.1), models=[held])
    with served(app) as server, post(server) as response:
        events = events_of(response.iter_lines())
        assert next(events)[0] == "token"
        server.server.handle_exit(signal.SIGTERM, None)
        (name, problem), end = events
        assert (name, problem["status"], problem["error_type"]) == ("error", 503, "draining")
        assert end == ("done", {})
        held.gate.open()


def test_silence_is_filled_with_comments(app: FastAPI, model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model.gate.close()
    assert stream.SILENCE_SECONDS == 15
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.01)
    with served(app) as server, post(server) as response:
        lines = response.iter_lines()
        assert [next(lines) for _ in range(4)] == [": ping", "", ": ping", ""]
        model.gate.open()
        assert next(events_of(lines))[0] == "token"


def test_after_a_long_silence_a_failure_is_an_event(
    app: FastAPI, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.gate.close()
    monkeypatch.setattr(stream, "SILENCE_SECONDS", 0.01)
    with served(app) as server, post(server, text=NOT_A_NUMBER) as response:
        assert response.status_code == 200
        model.gate.open()
        assert [name for name, _ in events_of(response.iter_lines())] == ["error", "done"]


def test_readers_who_do_not_read_keep_nobody_waiting_and_miss_nothing(model: FakeModel) -> None:
    app = create_app(Settings(max_rows=8, max_queue=10_000), models=[model])
    metrics = app.state.service.metrics
    long = {"text": "alpha bravo charlie. " * 3000, "truncation": "chunk", "stream": True}
    with served(app) as server, ExitStack() as stack:
        with post(server, **long) as response:
            expected = list(events_of(response.iter_lines()))
        stalled = [stack.enter_context(server.stalled(**long)) for _ in range(3)]
        parts = 4 * len(expected[-2][1]["parts"])
        eventually(lambda: sum(map(len, model.encodings)) == parts and model.occupied == 0)
        with post(server) as response:
            assert list(events_of(response.iter_lines()))[-1] == ("done", {})
        assert metrics.requests.labels("/summarize", "200")._value.get() == 2, "the stalled ones are not over"
        for caller in stalled:
            answer = HTTPResponse(caller, method="POST")
            answer.begin()
            events = list(events_of(answer.read().decode().split("\n")))
            assert tokens_of(events) == tokens_of(expected)
            assert events[-1] == ("done", {})


def test_after_sigterm_a_running_stream_goes_on_to_its_end(app: FastAPI, held: FakeModel) -> None:
    with served(app) as server, post(server) as response:
        events = events_of(response.iter_lines())
        assert next(events)[0] == "token"
        server.server.handle_exit(signal.SIGTERM, None)
        with httpx2.Client(base_url=server.url, timeout=PATIENCE) as other:
            refused = other.post("/summarize", json={"text": TEXT, "stream": True})
            assert (refused.status_code, refused.json()["error_type"]) == (503, "draining")
        held.gate.open()
        assert [name for name, _ in events][-2:] == ["summary", "done"]


def post(server: Served, **body: Any) -> AbstractContextManager[httpx2.Response]:
    sent = {"text": TEXT, "stream": True, **body}
    return httpx2.stream("POST", f"{server.url}/summarize", json=sent, timeout=PATIENCE)


def _remember(feeds: list[stream.Feed], wait: Wait) -> Wait:
    async def remembering(feed: stream.Feed) -> None:
        feeds.append(feed)
        await wait(feed)

    return remembering


def _fail_at_the_second_token(rows: list[Row]) -> None:
    if any(len(row.prefix) == 2 for row in rows):
        raise RuntimeError("this model fails halfway")


def _ending_at_once(row: Row) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    log_probabilities = np.full(len(fakes.VOCABULARY), -50.0, np.float32)
    log_probabilities[fakes.END] = 0.0
    return log_probabilities, np.full(len(row.source), 1 / len(row.source), np.float32)
