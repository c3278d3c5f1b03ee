"""Many texts: each in its place, none lost, and never more at once than wanted."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.client import ConnectionFailedError, Summary, UnprocessableError
from app.client.core import BEGUN_AHEAD
from app.examples import SUMMARY
from tests.api.waiting import PATIENCE
from tests.client.conftest import Connect
from tests.client.either import Clock, connected
from tests.client.scripted import Received, Reply, refusal, scripted

BAD = "bad"


class Service:
    """Answers a text with itself. Counts requests that are there at once, and holds them until so many are."""

    def __init__(self, together: int = 1) -> None:
        self.most = 0
        self._there = 0
        self._lock = threading.Lock()
        self._together = threading.Barrier(together)

    def __call__(self, received: Received) -> Reply:
        with self._lock:
            self._there += 1
            self.most = max(self.most, self._there)
        self._together.wait(PATIENCE)
        time.sleep(0.02)  # so that one too many would meet the others here
        with self._lock:
            self._there -= 1
        text = received.body["text"]
        return refusal(422) if text == BAD else Reply(body=json.dumps({**SUMMARY, "summary": text}).encode())


def told(results: Iterator[object]) -> Iterator[str]:
    for result in results:
        assert isinstance(result, Summary | UnprocessableError)
        yield result.summary if isinstance(result, Summary) else BAD


@settings(max_examples=20)
@given(
    kind=st.sampled_from(["blocking", "asyncio"]),
    texts=st.lists(st.sampled_from(["a", "b", "c", BAD]), max_size=20),
    concurrency=st.integers(1, 5),
)
def test_results_stand_in_the_order_of_their_texts(kind: str, texts: list[str], concurrency: int) -> None:
    service = Service()
    with scripted(service) as server, connected(kind, server.url) as client:
        assert list(told(client.summarize_all(iter(texts), concurrency=concurrency))) == texts
    assert service.most <= concurrency
    assert len(server.received) == len(texts)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_as_many_texts_are_there_at_once_as_wanted_and_no_more(connect: Connect, concurrency: int) -> None:
    service, texts = Service(together=concurrency), [str(number) for number in range(3 * concurrency)]
    with scripted(service) as server:
        assert list(told(connect(server.url).summarize_all(texts, concurrency=concurrency))) == texts
    assert service.most == concurrency


def test_texts_are_taken_as_they_are_needed(connect: Connect) -> None:
    taken = count()
    with scripted(Service()) as server:
        results = connect(server.url).summarize_all((str(next(taken)) for _ in range(1000)), concurrency=3)
        assert list(islice(told(results), 5)) == ["0", "1", "2", "3", "4"]
        results.close()
    assert 5 <= len(server.received) <= next(taken) <= 5 + BEGUN_AHEAD * 3


def test_what_the_texts_themselves_raise_is_raised(connect: Connect) -> None:
    def texts() -> Iterator[str]:
        yield "a"
        raise OSError("the file ended")

    with scripted(Service()) as server, pytest.raises(OSError, match="the file ended"):
        list(connect(server.url).summarize_all(texts()))


def test_a_text_is_tried_again_by_itself(connect: Connect) -> None:
    replies = {"a": Reply(), "b": refusal(503, Retry_After="3")}

    def answer(received: Received) -> Reply:
        text = received.body["text"]
        reply, replies[text] = replies[text], Reply()
        return reply

    clock = Clock()
    with scripted(answer) as server:
        results = list(connect(server.url, clock=clock).summarize_all(["a", "b", "a"]))
    assert [type(result) for result in results] == [Summary] * 3
    assert len(clock.slept) == 1


def test_without_a_service_every_text_has_that_error(connect: Connect) -> None:
    with scripted([Reply()]) as server:
        url = server.url
    results = list(connect(url, retries=0).summarize_all(["a", "b"]))
    assert [type(result) for result in results] == [ConnectionFailedError] * 2


def test_at_least_one_text_is_asked_for_at_once(connect: Connect) -> None:
    with pytest.raises(ValueError, match="concurrency must be at least 1"):
        list(connect("http://127.0.0.1:1").summarize_all(["a"], concurrency=0))
