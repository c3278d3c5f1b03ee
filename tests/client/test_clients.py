"""What each client does beyond the calls: connections, event loops, threads."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from app.client import AsyncClient, Client, Summary
from app.examples import SUMMARY
from tests.api.waiting import PATIENCE
from tests.client.scripted import Reply, Script, events, scripted

EXPECTED = Summary.model_validate(SUMMARY)
TOKEN = ("token", {"text": "a", "start": 0, "end": 1, "log_probability": -0.5, "sources": []})
SILENT = Reply(body=b"", held=True)
LATER = 2 * PATIENCE  # a deadline that is not what closes a connection


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted([Reply()]) as server:
        yield server


async def eventually(event: threading.Event) -> bool:
    """Wait for it while this event loop goes on."""
    return await asyncio.to_thread(event.wait, PATIENCE)


def test_one_connection_serves_call_after_call_and_is_closed_with_the_client(server: Script) -> None:
    with Client(server.url) as client:
        for _ in range(3):
            client.summarize("text")
    assert len({received.port for received in server.received}) == 1
    with pytest.raises(RuntimeError, match="closed"):
        client.summarize("text")


def test_an_asynchronous_client_is_closed_too(server: Script) -> None:
    async def scenario() -> None:
        async with AsyncClient(server.url) as client:
            await client.summarize("text")
        with pytest.raises(RuntimeError, match="closed"):
            await client.summarize("text")

    asyncio.run(scenario())


def test_an_http_client_of_ones_own_is_used_and_left_open(server: Script) -> None:
    with httpx2.Client(headers={"X-Tenant": "mine"}) as http:
        with Client(server.url, http=http) as client:
            client.summarize("text")
        assert not http.is_closed
    assert server.received[0].headers["x-tenant"] == "mine"


def test_an_asynchronous_http_client_of_ones_own_is_left_open(server: Script) -> None:
    async def scenario() -> None:
        async with httpx2.AsyncClient() as http:
            async with AsyncClient(server.url, http=http) as client:
                await client.summarize("text")
            assert not http.is_closed

    asyncio.run(scenario())


def test_threads_may_share_a_client(server: Script) -> None:
    with Client(server.url) as client, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(client.summarize, ["text"] * 12)) == [EXPECTED] * 12


def test_a_blocking_client_works_where_an_event_loop_runs(server: Script) -> None:
    async def scenario() -> list[object]:
        with Client(server.url) as client:
            return [client.summarize("text"), *client.summarize_all(["text"] * 3)]

    assert asyncio.run(scenario()) == [EXPECTED] * 4


def test_other_tasks_go_on_while_a_call_waits(server: Script) -> None:
    async def scenario() -> list[Summary]:
        async with AsyncClient(server.url) as client:
            return await asyncio.gather(*(client.summarize("text") for _ in range(4)))

    assert asyncio.run(scenario()) == [EXPECTED] * 4
    assert len({received.port for received in server.received}) == 4


def test_a_task_that_leaves_a_stream_closes_its_connection() -> None:
    async def scenario(server: Script) -> None:
        async with AsyncClient(server.url, timeout=LATER) as client:
            async for _event in client.stream("text"):
                break
            assert await eventually(server.caller_left)

    with scripted([events(TOKEN, held=True)]) as server:
        asyncio.run(scenario(server))


def test_a_call_that_is_cancelled_closes_its_connection() -> None:
    async def scenario(server: Script) -> None:
        async with AsyncClient(server.url, timeout=LATER) as client:
            call = asyncio.create_task(client.summarize("text"))
            assert await eventually(server.asked)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await eventually(server.caller_left)

    with scripted([SILENT]) as server:
        asyncio.run(scenario(server))


def test_leaving_many_texts_cancels_those_that_are_under_way() -> None:
    async def scenario(server: Script) -> None:
        async with AsyncClient(server.url, timeout=LATER) as client:
            results = client.summarize_all(["first", "second"], concurrency=2)
            first = await anext(results)
            assert first == EXPECTED
            await results.aclose()
            assert await eventually(server.caller_left)

    with scripted(lambda received: Reply() if received.body["text"] == "first" else SILENT) as server:
        asyncio.run(scenario(server))
