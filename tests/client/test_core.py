"""Attempts, deadlines and answers, of both clients, against a server that does as it is told."""

import json
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from app.client import (
    ApiError,
    ConnectionFailedError,
    ContentTooLargeError,
    DeadlineExceededError,
    ForbiddenError,
    GatewayTimeoutError,
    NotFoundError,
    OverloadedError,
    PrecisError,
    Summary,
    TooManyRequestsError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnprocessableError,
)
from app.client.core import CONNECT_SECONDS
from app.client.retries import FIRST_SECONDS
from app.examples import PROBLEM, SUMMARY
from tests.client.conftest import Connect
from tests.client.either import Clock, connected
from tests.client.scripted import Received, Reply, events, refusal, scripted

GOOD = Reply()
EXPECTED = Summary.model_validate(SUMMARY)


def test_options_are_sent_where_the_api_has_them_and_none_is_left_out(connect: Connect) -> None:
    with scripted([GOOD]) as server:
        client = connect(server.url + "/", api_key="secret", clock=Clock())
        answer = client.summarize("text", model="news-en", num_beams=4, min_length=None, truncation="error", timeout=30)
    assert answer == EXPECTED
    (received,) = server.received
    assert (received.method, received.path) == ("POST", "/summarize")
    assert received.body == {
        "text": "text",
        "model": "news-en",
        "truncation": "error",
        "parameters": {"num_beams": 4},
        "timeout_ms": 30_000,
    }
    assert received.headers["authorization"] == "Bearer secret"
    assert received.headers["user-agent"].startswith("precis/")


def test_a_service_may_stand_below_a_path(connect: Connect) -> None:
    with scripted([GOOD]) as server:
        connect(f"{server.url}/precis/").summarize("text")
    assert server.received[0].path == "/precis/summarize"


def test_a_refusal_is_tried_again_after_as_long_as_the_service_wants(connect: Connect) -> None:
    clock = Clock()
    with scripted([refusal(503, Retry_After="7"), GOOD]) as server:
        assert connect(server.url, clock=clock).summarize("text") == EXPECTED
    (slept,) = clock.slept
    assert 7 <= slept < 7 + FIRST_SECONDS
    assert [received.body["timeout_ms"] for received in server.received] == [60_000, int((60 - slept) * 1000)]


def test_retry_after_may_be_a_date(connect: Connect) -> None:
    clock, now = Clock(), datetime.now(UTC)
    later = format_datetime(now + timedelta(seconds=20), usegmt=True)
    with scripted([refusal(429, Retry_After=later), GOOD]) as server:
        connect(server.url, clock=clock).summarize("text")
    (slept,) = clock.slept
    assert 15 < slept < 20 + FIRST_SECONDS  # between what was written and what was sent, some seconds may pass


def test_nothing_is_tried_again_that_the_deadline_would_end(connect: Connect) -> None:
    clock = Clock()
    with scripted([refusal(503, Retry_After="60")]) as server, pytest.raises(OverloadedError) as raised:
        connect(server.url, clock=clock, timeout=60).summarize("text")
    assert raised.value.retry_after == 60
    assert clock.slept == []
    assert len(server.received) == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_attempts_end_with_the_last_error(connect: Connect, retries: int) -> None:
    with scripted([refusal(429)]) as server, pytest.raises(TooManyRequestsError):
        connect(server.url, clock=Clock(), retries=retries).summarize("text")
    assert len(server.received) == 1 + retries


@pytest.mark.parametrize("cut", [0, 10])
def test_a_broken_connection_is_tried_again(connect: Connect, cut: int) -> None:
    with scripted([Reply(cut=cut), GOOD]) as server:
        assert connect(server.url, clock=Clock()).summarize("text") == EXPECTED
    assert len(server.received) == 2


def test_a_service_that_is_not_there_is_named_without_a_password(connect: Connect) -> None:
    clock = Clock()
    with scripted([GOOD]) as server:
        host = server.url.removeprefix("http://")
    client = connect(f"http://user:secret@{host}", clock=clock, retries=2)
    with pytest.raises(ConnectionFailedError, match=f"^{re.escape(host)}: .") as raised:
        client.summarize("text")
    assert "secret" not in str(raised.value)
    assert len(clock.slept) == 2
    assert client.ready() is False


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ApiError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (413, ContentTooLargeError),
        (422, UnprocessableError),
        (500, ApiError),
        (504, GatewayTimeoutError),
    ],
)
def test_an_error_of_the_service_is_raised_at_once_with_all_it_says(
    connect: Connect, status: int, kind: type[ApiError]
) -> None:
    with scripted([refusal(status, X_Request_ID="abc")]) as server, pytest.raises(ApiError) as raised:
        connect(server.url, clock=Clock()).summarize("text")
    error = raised.value
    assert type(error) is kind
    assert len(server.received) == 1
    assert str(error) == f"{status}: in words"
    assert (error.status, error.request_id, error.retry_after) == (status, "abc", None)
    assert error.problem is not None
    assert error.problem.title == PROBLEM["title"]


def test_an_error_of_something_else_has_a_status_and_no_problem(connect: Connect) -> None:
    html = Reply(502, b"<html>Bad gateway: text</html>", {"Content-Type": "text/html"})
    with scripted([html]) as server, pytest.raises(ApiError, match=r"^502: ") as raised:
        connect(server.url, clock=Clock()).summarize("text")
    assert raised.value.problem is None
    assert "html" not in str(raised.value)


@pytest.mark.parametrize("body", [b"", b"garbage", b"[]", json.dumps({**SUMMARY, "score": "good"}).encode()])
def test_an_answer_that_is_not_one_of_precis_is_told_without_quoting_it(connect: Connect, body: bytes) -> None:
    with scripted([Reply(body=body)]) as server, pytest.raises(UnexpectedAnswerError) as raised:
        connect(server.url, clock=Clock()).summarize("text")
    assert len(server.received) == 1
    assert "g" * 3 not in str(raised.value)
    assert "good" not in str(raised.value)


def test_an_answer_that_cannot_be_unpacked_is_none_of_precis(connect: Connect) -> None:
    with scripted([Reply(headers={"Content-Encoding": "gzip"})]) as server, pytest.raises(UnexpectedAnswerError):
        connect(server.url, clock=Clock()).summarize("text")
    assert len(server.received) == 1


def test_fields_added_later_are_no_fault(connect: Connect) -> None:
    with scripted([Reply(body=json.dumps({**SUMMARY, "added": 1}).encode())]) as server:
        assert connect(server.url).summarize("text") == EXPECTED


def test_the_deadline_of_the_service_and_the_callers_own_are_one_error_to_catch(connect: Connect) -> None:
    with scripted([refusal(504)]) as server, pytest.raises(DeadlineExceededError):
        connect(server.url).summarize("text")
    with (
        scripted([Reply(body=b"", held=True)]) as server,
        pytest.raises(DeadlineExceededError, match=r"within 0\.1 sec"),
    ):
        connect(server.url, timeout=0.1).summarize("text")


@pytest.mark.parametrize("method", ["summarize", "stream"])
def test_an_answer_that_comes_after_the_deadline_is_none(connect: Connect, method: str) -> None:
    clock, whole = Clock(), events(("summary", SUMMARY), ("done", {}))

    def too_late(_received: Received) -> Reply:
        clock.now += 60
        return whole if method == "stream" else GOOD

    with scripted(too_late) as server:
        client = connect(server.url, clock=clock, timeout=60)
        with pytest.raises(DeadlineExceededError):
            client.summarize("text") if method == "summarize" else list(client.stream("text"))


def test_an_attempt_to_connect_is_given_up_early_and_made_again(kind: str) -> None:
    limits: list[dict[str, float]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        limits.append(request.extensions["timeout"])
        if len(limits) == 1:
            raise httpx2.ConnectTimeout("", request=request)
        return httpx2.Response(200, json=SUMMARY)

    transport, clock = httpx2.MockTransport(answer), Clock()
    http = httpx2.Client(transport=transport) if kind == "blocking" else httpx2.AsyncClient(transport=transport)
    with connected(kind, "http://service", clock=clock, http=http, timeout=30) as client:
        assert client.summarize("text") == EXPECTED
    left = 30 - clock.now
    assert [(limit["connect"], limit["read"]) for limit in limits] == [(CONNECT_SECONDS, 30), (CONNECT_SECONDS, left)]


def test_a_deadline_is_over_all_attempts_and_what_went_wrong_before_is_told(connect: Connect) -> None:
    clock = Clock(oversleeps=60)
    with scripted([refusal(503)]) as server, pytest.raises(DeadlineExceededError) as raised:
        connect(server.url, clock=clock, timeout=60).summarize("text")
    assert len(server.received) == 1
    assert isinstance(raised.value.__cause__, OverloadedError)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_deadline_is_a_number_of_seconds(connect: Connect, timeout: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        connect("http://127.0.0.1:1").summarize("text", timeout=timeout)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host", "http://", "", "http://host:port", "http://a?b", "http://a#b"]
)
def test_what_is_no_url_of_a_service_is_refused(connect: Connect, url: str) -> None:
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:8000"):
        connect(url)


@pytest.mark.parametrize("key", ["", "secret\n", " secret", "sécret", "sec\x00ret"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_told(connect: Connect, key: str) -> None:
    with pytest.raises(ValueError, match="API key") as raised:
        connect("http://127.0.0.1:1", api_key=key)
    assert "secret" not in str(raised.value)


def test_readiness_is_asked_for_once(connect: Connect) -> None:
    with scripted([refusal(503, Retry_After="1"), Reply(body=b'{"status": "ok"}')]) as server:
        client = connect(server.url)
        assert client.ready() is False
        assert len(server.received) == 1
        assert client.ready() is True


def test_every_text_has_a_result_in_its_place_whatever_happens_to_others(connect: Connect) -> None:
    with scripted([GOOD, refusal(422), GOOD]) as server:
        results = list(connect(server.url).summarize_all(["a", "b", "c"], concurrency=1))
    assert [received.body["text"] for received in server.received] == ["a", "b", "c"]
    assert [type(result) for result in results] == [Summary, UnprocessableError, Summary]
    assert isinstance(results[1], PrecisError)
