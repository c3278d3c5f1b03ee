"""Callers who leave, in the midst of decoding and over a real exchange."""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Message

from app.api import work
from app.api.service import Service
from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from tests.api.asgi import scope_of
from tests.api.waiting import Rounds, eventually
from tests.fakes import FakeModel

Futures = list[Future[Summary]]
TEXTS = {"/summarize": 1, "/summarize/batch": 2, "/attention": 1}
BODIES: dict[str, dict[str, Any]] = {
    "/summarize": {"text": "alpha bravo"},
    "/summarize/batch": {"texts": ["alpha bravo", "charlie"]},
    "/attention": {"text": "alpha bravo"},
}


@pytest.mark.parametrize("path", BODIES)
def test_a_caller_who_leaves_frees_its_rows(app: FastAPI, service: Service, model: FakeModel, path: str) -> None:
    asyncio.run(_leave_while_decoding(app, model, path))
    eventually(lambda: model.occupied == 0)
    eventually(lambda: service.metrics.cancelled._value.get() == TEXTS[path])
    assert service.metrics.requests.labels(path, "499")._value.get() == 1


def test_the_work_of_others_goes_on(app: FastAPI, model: FakeModel) -> None:
    async def both() -> int:
        async with app.router.lifespan_context(app):
            model.gate.close()
            sent: list[Message] = []
            staying = asyncio.create_task(_exchange(app, "/summarize", asyncio.Event(), sent))
            await asyncio.to_thread(model.gate.wait_for_arrival, 1)
            left = asyncio.Event()
            leaving = asyncio.create_task(_exchange(app, "/attention", left, []))
            model.gate.allow(1)
            await asyncio.to_thread(model.gate.wait_for_arrival, 2)
            left.set()
            await leaving
            model.gate.open()
            await staying
            return int(sent[0]["status"])

    assert asyncio.run(both()) == 200


@pytest.mark.parametrize("path", BODIES)
def test_of_those_that_come_at_once_one_is_begun_each_time_the_loop_goes_round(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    begun: list[int] = []
    rounds = Rounds()

    submit = Engine.submit

    def submit_and_tell(engine: Engine, texts: Sequence[SummaryRequest], waited: float) -> Futures:
        begun.append(rounds.count)
        return submit(engine, texts, waited)

    async def come_at_once() -> None:
        async with app.router.lifespan_context(app):
            going = asyncio.create_task(rounds.go())
            await asyncio.gather(*(_exchange(app, path, asyncio.Event(), []) for _ in range(4)))
            going.cancel()

    monkeypatch.setattr(Engine, "submit", submit_and_tell)
    asyncio.run(come_at_once())
    assert len(set(begun)) == 4


@pytest.mark.parametrize("path", BODIES)
def test_nobody_waits_for_an_engine_that_hangs(
    client: TestClient, model: FakeModel, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(work, "MARGIN_SECONDS", 0.01)
    model.gate.close()
    response = client.post(path, json={**BODIES[path], "timeout_ms": 1})
    problems = [each["error"] for each in response.json()["results"]] if TEXTS[path] > 1 else [response.json()]
    assert [each["status"] for each in problems] == [504] * TEXTS[path]
    assert len(model.states) == 1, "the engine still hangs"
    model.gate.open()
    eventually(lambda: model.occupied == 0)


def test_a_text_that_is_wrong_is_told_beside_those_that_hang(
    client: TestClient, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MARGIN_SECONDS", 0.01)
    model.gate.close()
    texts = ["alpha bravo", " ", "charlie"]
    first, second, third = client.post("/summarize/batch", json={"texts": texts, "timeout_ms": 1}).json()["results"]
    assert [each["error"]["status"] for each in (first, second, third)] == [504, 422, 504]


async def _leave_while_decoding(app: FastAPI, model: FakeModel, path: str) -> None:
    async with app.router.lifespan_context(app):
        model.gate.close()
        left, sent = asyncio.Event(), list[Message]()
        exchange = asyncio.create_task(_exchange(app, path, left, sent))
        await asyncio.to_thread(model.gate.wait_for_arrival, 1)
        left.set()
        await exchange
        assert sent == []
        model.gate.allow(1)  # the step that is running; no further one is needed
        await asyncio.to_thread(eventually, lambda: model.occupied == 0)
        assert len(model.steps) == 1
        model.gate.open()


async def _exchange(app: FastAPI, path: str, left: asyncio.Event, sent: list[Message]) -> None:
    body = iter([json.dumps(BODIES[path]).encode()])

    async def receive() -> Message:
        chunk = next(body, None)
        if chunk is not None:
            return {"type": "http.request", "body": chunk, "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope_of("POST", path, {"Content-Type": "application/json"}), receive, send)
