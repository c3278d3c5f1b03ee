"""What may take long leaves the event loop, what is short stays on it."""

import asyncio
import json
import threading
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Message

from app.api import body, work
from app.api.threads import THREADS
from app.models.base import Tokens
from tests.api.asgi import scope_of
from tests.api.waiting import Rounds
from tests.fakes import FakeModel

BODIES: dict[str, Any] = {
    "/summarize": {"text": "alpha bravo"},
    "/summarize/batch": {"texts": ["alpha", "bravo", "charlie"]},
    "/attention": {"text": "alpha bravo"},
}


@pytest.fixture
def tokenizing(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the threads that tokenize, text by text."""
    names: list[str] = []
    tokenize = model.tokenize

    def told(text: str) -> Tokens:
        names.append(threading.current_thread().name)
        return tokenize(text)

    monkeypatch.setattr(model, "tokenize", told)
    return names


def loop_thread(client: TestClient) -> str:
    assert client.portal is not None
    name: str = client.portal.call(lambda: threading.current_thread().name)
    return name


@pytest.mark.parametrize("path", BODIES)
def test_short_texts_are_tokenized_at_once(client: TestClient, tokenizing: list[str], path: str) -> None:
    assert client.post(path, json=BODIES[path]).status_code == 200
    assert set(tokenizing) == {loop_thread(client)}


@pytest.mark.parametrize("path", BODIES)
def test_long_texts_are_tokenized_in_one_thread_beside_the_loop(
    client: TestClient, tokenizing: list[str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "TOKENIZED_AT_ONCE", 10)
    assert client.post(path, json=BODIES[path]).status_code == 200
    assert len(set(tokenizing)) == 1
    assert loop_thread(client) not in tokenizing


def test_the_event_loop_goes_round_between_two_short_texts(app: FastAPI, model: FakeModel) -> None:
    rounds, seen, tokenize = Rounds(), list[int](), model.tokenize

    def told(text: str) -> Tokens:
        seen.append(rounds.count)
        return tokenize(text)

    async def ask() -> None:
        body = iter([json.dumps(BODIES["/summarize"]).encode()])

        async def receive() -> Message:
            if (chunk := next(body, None)) is None:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": chunk, "more_body": False}

        async def send(_message: Message) -> None:
            pass

        await app(scope_of("POST", "/summarize", {"Content-Type": "application/json"}), receive, send)

    async def together() -> None:
        async with app.router.lifespan_context(app):
            counting = asyncio.create_task(rounds.go())
            await asyncio.gather(*(ask() for _ in range(5)))
            counting.cancel()

    model.tokenize = told  # type: ignore[method-assign]  # to watch it
    asyncio.run(together())
    assert len(set(seen)) == len(seen) == 5


def test_a_given_summary_counts_as_text(
    client: TestClient, tokenizing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "TOKENIZED_AT_ONCE", 10)
    assert client.post("/attention", json={"text": "alpha", "summary": "bravo charlie"}).status_code == 200
    assert loop_thread(client) not in tokenizing


@pytest.mark.parametrize("size", [body.READ_AT_ONCE, body.READ_AT_ONCE + 1])
def test_a_large_body_is_read_beside_the_loop(client: TestClient, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    names: list[str] = []
    parse = body.parse_json

    def told(content: bytes) -> object:
        names.append(threading.current_thread().name)
        return parse(content)

    monkeypatch.setattr(body, "parse_json", told)
    content = b'{"text": "alpha"}'.ljust(size)
    answer = client.post("/summarize", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert (names == [loop_thread(client)]) is (size <= body.READ_AT_ONCE)


def test_there_are_few_threads(client: TestClient) -> None:
    from anyio.to_thread import current_default_thread_limiter

    assert client.portal is not None
    limiter = client.portal.call(current_default_thread_limiter)
    assert limiter.total_tokens == THREADS
