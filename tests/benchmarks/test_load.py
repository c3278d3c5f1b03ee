"""What the load generators count."""

import asyncio
import itertools
import shutil
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from benchmarks import load

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@contextmanager
def answering(
    *answers: bytes, slow: int = 0, pause: float = 0.5, route: str = load.ROUTE
) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in turn, on every connection: its address, and the bodies that it was sent.

    route: where else, it hangs up.

    slow: so many answers at the beginning take `pause` seconds.
    """
    bodies: list[bytes] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()
    ports: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(f"POST {route} HTTP/1.1\r\n".encode()):
                    raise ConnectionError("asked for something else")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                answer = answers[(len(bodies) - 1) % len(answers)]
                if len(bodies) <= slow:
                    await asyncio.sleep(pause)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        await stopped.wait()
        server.close()
        readers = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*readers)  # they find their connections closed

    stopped = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    started.wait(30)
    try:
        yield f"http://127.0.0.1:{ports[0]}", bodies
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(30)
        loop.close()


@pytest.mark.parametrize("answer", [ANSWER, CHUNKED])
def test_every_text_is_sent_once_and_its_whole_answer_read(answer: bytes) -> None:
    with answering(answer) as (url, bodies):
        measured = load.one_by_one(url, [b"1", b"22", b"333"])
    assert bodies == [b"1", b"22", b"333"]
    assert (measured.answers, measured.errors) == (3, 0)


def test_what_is_not_answered_with_200_is_an_error_and_no_answer() -> None:
    with answering(ANSWER, REFUSED) as (url, _):
        measured = load.one_by_one(url, [b"1"] * 4)
    assert (measured.answers, measured.errors) == (2, 2)


def test_an_address_where_nobody_answers_is_an_error() -> None:
    with answering(ANSWER) as (url, _):
        pass
    assert load.one_by_one(url, [b"1"]).errors == 1


def test_an_open_loop_sends_as_many_texts_as_were_planned() -> None:
    planned = len(list(load.arrivals(rate=200, seconds=0.2, seed=1)))
    with answering(ANSWER) as (url, bodies):
        measured = load.open_loop(url, [b"1", b"2"], rate=200, seconds=0.2, seed=1)
    assert measured.answers == len(bodies) == planned > 0


def test_clients_in_python_wait_for_their_answers_and_stop_in_time() -> None:
    with answering(ANSWER) as (url, bodies):
        measured = load._closed_in_python(url, [b"1", b"2"], clients=3, seconds=0.2, each=0, route=load.ROUTE)
    assert measured.errors == 0
    assert 0 <= len(bodies) - measured.answers <= 3


WRK = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.mark.parametrize("run", [load._closed_in_python, pytest.param(load._wrk, marks=WRK)], ids=["python", "wrk"])
def test_a_closed_loop_may_ask_another_route(run: Callable[..., load.Measured]) -> None:
    with answering(ANSWER, route="/other") as (url, _):
        measured = run(url, [b"1"], clients=2, seconds=0.2, each=0, route="/other")
    assert measured.errors == 0
    assert measured.answers > 0


@pytest.mark.parametrize("clients", [1, 3])
def test_a_slow_server_is_loaded_until_every_client_has_had_its_answers(clients: int) -> None:
    with answering(ANSWER, slow=1000, pause=0.05) as (url, _):
        measured = load.closed_loop(url, [b"1"], clients, seconds=0.1, each=3)
    assert measured.answers >= 3 * clients
    assert measured.errors == 0


def test_the_time_until_every_client_has_had_an_answer_is_not_counted() -> None:
    with answering(ANSWER, slow=2) as (url, _):
        all_of_it = load.closed_loop(url, [b"1"], clients=2, seconds=0.8)
    with answering(ANSWER, slow=2) as (url, _):
        filled = load.closed_loop(url, [b"1"], clients=2, seconds=0.8, each=2)
    assert filled.rate > 1.5 * all_of_it.rate  # it was idle for more than half of the time


def test_arrivals_are_those_of_a_poisson_process() -> None:
    moments = list(load.arrivals(rate=50, seconds=200, seed=1))
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.05)  # as large as the mean: exponential


@WRK
def test_wrk_sends_the_texts_in_turn_and_counts_what_is_not_200() -> None:
    with answering(ANSWER, REFUSED) as (url, bodies):
        measured = load._wrk(url, [b'{"a": 1}', b'{"b": 2}'], clients=1, seconds=1, each=0, route=load.ROUTE)
    assert {bodies[0], bodies[1]} == {b'{"a": 1}', b'{"b": 2}'}
    assert bodies[0] == bodies[2]
    assert measured.answers > 0
    assert abs(measured.answers - measured.errors) <= 1
