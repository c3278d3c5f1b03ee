"""Streams, of both clients: whole, broken, refused and left."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client import (
    ApiError,
    ConnectionFailedError,
    OverloadedError,
    Summary,
    TokenEvent,
    UnexpectedAnswerError,
    UnprocessableError,
)
from app.examples import PROBLEM, SUMMARY
from tests.api.waiting import PATIENCE
from tests.client.conftest import Connect
from tests.client.either import Clock, connected
from tests.client.scripted import Reply, events, refusal, scripted

WORDS = ("Writing", " short", " summaries")
TOKENS: list[tuple[str, Any]] = [
    ("token", {"text": word, "start": 0, "end": 1, "log_probability": -0.5, "sources": []}) for word in WORDS
]
END: list[tuple[str, Any]] = [("summary", SUMMARY), ("done", {})]
WHOLE = events(*TOKENS, *END)
EXPECTED = [*(TokenEvent.model_validate(token) for _, token in TOKENS), Summary.model_validate(SUMMARY)]


def test_a_stream_is_its_tokens_and_then_the_summary(connect: Connect) -> None:
    with scripted([WHOLE]) as server:
        assert list(connect(server.url, clock=Clock()).stream("text", max_length=5, timeout=9)) == EXPECTED
    (received,) = server.received
    assert received.headers["accept"] == "text/event-stream"
    assert received.body == {"text": "text", "stream": True, "parameters": {"max_length": 5}, "timeout_ms": 9000}


def test_comments_and_events_added_later_are_passed_over(connect: Connect) -> None:
    body = b": alive\n\nevent: added\ndata: 1\n\n" + WHOLE.body
    with scripted([Reply(200, body, WHOLE.headers)]) as server:
        assert list(connect(server.url).stream("text")) == EXPECTED


@given(st.data())
def test_a_stream_may_be_cut_into_pieces_anywhere(data: st.DataObject) -> None:
    body = WHOLE.body.replace(b"Writing", "写作".encode()).replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n"])))
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=30).map(sorted))
    pieces = [body[start:end] for start, end in pairwise([0, *cuts, len(body)])]

    async def slowly() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=WHOLE.headers, content=iter(pieces))

    async def answer_asynchronously(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=WHOLE.headers, content=slowly())

    blocking = httpx2.Client(transport=httpx2.MockTransport(answer))
    asynchronous = httpx2.AsyncClient(transport=httpx2.MockTransport(answer_asynchronously))
    for kind, http in (("blocking", blocking), ("asyncio", asynchronous)):
        with connected(kind, "http://service", http=http) as client:
            told = [event.summary if isinstance(event, Summary) else event.text for event in client.stream("text")]
        assert told == ["写作", " short", " summaries", "写作 short summaries"]


def test_a_refusal_before_the_first_token_is_tried_again(connect: Connect) -> None:
    with scripted(
        [refusal(503, Retry_After="2"), Reply(cut=0), events(("error", PROBLEM | {"status": 503})), WHOLE]
    ) as server:
        clock = Clock()
        assert list(connect(server.url, clock=clock).stream("text")) == EXPECTED
    assert len(clock.slept) == 3
    assert len(server.received) == 4


def test_nothing_is_tried_again_after_the_first_token(connect: Connect) -> None:
    begun = events(*TOKENS, *END)
    with scripted([Reply(200, begun.body, begun.headers, cut=len(begun.body) // 2)]) as server:
        stream = connect(server.url, clock=Clock()).stream("text")
        assert next(stream) == EXPECTED[0]
        with pytest.raises(ConnectionFailedError):
            list(stream)
    assert len(server.received) == 1


def test_a_stream_that_ends_too_early_is_told_so(connect: Connect) -> None:
    with scripted([events(*TOKENS)]) as server, pytest.raises(ConnectionFailedError, match="before its summary"):
        list(connect(server.url, clock=Clock()).stream("text"))
    assert len(server.received) == 1


@pytest.mark.parametrize(("status", "kind"), [(500, ApiError), (503, OverloadedError), (504, ApiError)])
def test_an_error_amid_the_stream_is_raised_in_its_place(connect: Connect, status: int, kind: type[ApiError]) -> None:
    problem = PROBLEM | {"status": status}
    with scripted([events(TOKENS[0], ("error", problem), ("done", {}))]) as server:
        stream = connect(server.url, clock=Clock()).stream("text")
        assert next(stream) == EXPECTED[0]
        with pytest.raises(kind) as raised:
            next(stream)
    assert (raised.value.status, raised.value.request_id) == (status, PROBLEM["request_id"])
    assert len(server.received) == 1


def test_a_refusal_that_time_does_not_heal_is_raised_at_once(connect: Connect) -> None:
    with scripted([refusal(422)]) as server, pytest.raises(UnprocessableError):
        list(connect(server.url).stream("text", num_beams=4))
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "reply",
    [Reply(), events(("token", {"text": 1})), Reply(200, b"event: summary\ndata: {\n\n", WHOLE.headers)],
    ids=["no stream", "another token", "no JSON"],
)
def test_what_does_not_stream_as_precis_does_is_told(connect: Connect, reply: Reply) -> None:
    with scripted([reply]) as server, pytest.raises(UnexpectedAnswerError):
        list(connect(server.url).stream("text"))


def test_leaving_a_stream_closes_its_connection(connect: Connect) -> None:
    with scripted([events(TOKENS[0], held=True)]) as server:
        client = connect(server.url, timeout=2 * PATIENCE)
        for event in client.stream("text"):
            assert event == EXPECTED[0]
            assert not server.caller_left.is_set()
            break
        assert server.caller_left.wait(PATIENCE)


def test_the_connection_of_a_whole_stream_is_used_again(connect: Connect) -> None:
    with scripted([WHOLE]) as server:
        client = connect(server.url)
        for _ in range(3):
            list(client.stream("text"))
    assert len({received.port for received in server.received}) == 1
