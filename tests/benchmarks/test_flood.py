"""What the open loop offers, sends and counts."""

import pytest

from benchmarks.flood import flood
from tests.benchmarks.test_load import ANSWER, answering

REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 3\r\n\r\nnot"
WITHOUT = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
CLOSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def test_every_request_is_answered_or_counted_as_not_sent() -> None:
    over: list[bool] = []
    with answering(ANSWER, REFUSED, WITHOUT) as (url, bodies):
        found = flood(url, [b"{}", b"{ }"], 300.0, 0.5, 20, seed=1, offered_all=lambda: over.append(True))
    assert over == [True]
    assert found.offered > 0
    assert found.statuses.total() == found.offered - found.not_sent == len(bodies)
    assert set(found.statuses) == {200, 503}
    assert found.without_retry_after in (found.statuses[503] // 2, found.statuses[503] // 2 + 1)
    assert len(found.latencies) == found.statuses[200]
    assert found.broken == 0
    assert set(bodies) == {b"{}", b"{ }"}


def test_a_connection_that_the_answer_closes_is_opened_anew() -> None:
    with answering(CLOSED) as (url, _):
        found = flood(url, [b"{}"], 300.0, 0.3, 4)
    assert found.statuses == {503: found.offered - found.not_sent}
    assert found.broken == 0


def test_whoever_finds_all_connections_waiting_is_not_sent() -> None:
    with answering(ANSWER) as (url, _):
        found = flood(url, [b"{}"], 20_000.0, 0.1, 1)
    assert found.not_sent > 0
    assert found.statuses.total() == found.offered - found.not_sent


@pytest.mark.parametrize("seed", [1, 2])
def test_as_much_is_offered_as_was_asked_for(seed: int) -> None:
    with answering(ANSWER) as (url, _):
        found = flood(url, [b"{}"], 400.0, 1.0, 5, seed)
    assert found.offered == pytest.approx(400, rel=0.3)
