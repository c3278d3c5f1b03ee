"""What an answer means, whatever it is."""

import json

import pytest
from httpx2 import ServerSentEvent
from hypothesis import given
from hypothesis import strategies as st

from app.client import ApiError, OverloadedError, Summary, UnexpectedAnswerError
from app.client.answers import refusal, result, streamed
from app.examples import PROBLEM, SUMMARY

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_no_result_and_is_not_quoted(body: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError, match=r"^the answer is not a Summary of Precis: (the whole|id): \w+$"):
        result(Summary, body)


@pytest.mark.parametrize("name", sorted(SUMMARY))
def test_a_field_that_is_wrong_is_named(name: str) -> None:
    with pytest.raises(UnexpectedAnswerError, match=f": {name}(/\\w+)?: ") as raised:
        result(Summary, json.dumps({**SUMMARY, name: {"text": "secret"}}))
    assert "secret" not in str(raised.value)


@given(
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(["Retry-After", "Date", "X-Request-ID"]), st.text()),
    st.binary(),
)
def test_any_other_status_is_an_error_whatever_comes_with_it(status: int, headers: dict[str, str], body: bytes) -> None:
    error = refusal(status, headers, body)
    assert error.status == status
    assert str(error).startswith(f"{status}: ")
    assert error.problem is None


def test_the_problem_of_the_service_is_kept() -> None:
    error = refusal(422, {}, json.dumps(PROBLEM).encode())
    assert error.problem is not None
    assert error.problem.errors[0].pointer == "/parameters/num_beams"
    assert str(error) == f"422: {PROBLEM['detail']}"
    assert error.request_id == PROBLEM["request_id"]


def test_two_dates_of_one_answer_are_compared_with_each_other() -> None:
    headers = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 1994 08:51:07 GMT"}
    error = refusal(503, headers, b"")
    assert type(error) is OverloadedError
    assert error.retry_after == 90


@pytest.mark.parametrize("name", ["message", "added", "done", ""])
def test_an_event_that_means_nothing_to_callers_is_passed_over(name: str) -> None:
    assert streamed(ServerSentEvent(name, "whatever it holds")) is None


def test_an_error_event_is_raised_as_if_it_were_a_status() -> None:
    with pytest.raises(OverloadedError, match="full"):
        streamed(ServerSentEvent("error", json.dumps({**PROBLEM, "status": 503, "detail": "full"})))
    with pytest.raises(ApiError, match=r"^500: "):
        streamed(ServerSentEvent("error", json.dumps({**PROBLEM, "status": 500})))
