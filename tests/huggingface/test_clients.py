"""Clients that exist get the same summaries as `POST /summarize`, and errors that read well."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from app.examples import SECOND_TEXT, TEXT
from tests.api.waiting import PATIENCE, eventually
from tests.huggingface.conftest import KEY, NODE, SLOW_KEY, VERSIONS, Client, hub
from tests.test_server import Process

NEWS = (
    "Northwind Airlines cancelled more than 200 flights on Friday after a computer failure left thousands of "
    "passengers stranded at airports across the country. The company said the fault had been repaired by the evening "
    "but warned of delays over the weekend."
)
CHINESE = "格林河大桥3月18日正式通车。大桥全长4.2公里，双向六车道，设计时速80公里，总投资15.6亿元。"
LONG = f"{NEWS} " * 12
PARAMETERS: list[dict[str, Any]] = [
    {},
    {"num_beams": 1},
    {"num_beams": 2, "max_length": 8, "min_length": 4},
    {"length_penalty": -2.0, "no_repeat_ngram_size": 2},
    {"numbers_from_source": False},
]


def summarize(service: Process, text: str, **fields: Any) -> str:
    response = httpx2.post(f"{service.url}/summarize", json={"text": text, **fields}, timeout=PATIENCE)
    assert response.status_code == 200
    summary: str = response.json()["summary"]
    return summary


def error_of(answer: dict[str, Any], status: int | None) -> dict[str, Any]:
    error: dict[str, Any] = answer["error"]
    assert error["status"] == status, error
    return error


# --- summaries ---


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
@pytest.mark.parametrize("text", [NEWS, TEXT, SECOND_TEXT], ids=lambda text: text[:10])
def test_summaries_are_those_of_summarize(
    client: Client, service: Process, text: str, parameters: dict[str, Any]
) -> None:
    expected = {"summaries": [summarize(service, text, parameters=parameters)]}
    nested = {"generate_parameters": parameters} if parameters else {}
    assert client.ask(service.url, text, nested) == expected
    assert client.ask(f"{service.url}/models/news-en", text, nested) == expected
    if client.kind is NODE:  # huggingface_hub has no way to send them flat
        assert client.ask(service.url, text, parameters) == expected


def test_the_path_chooses_the_model(client: Client, service: Process) -> None:
    expected = summarize(service, CHINESE, model="news-zh")
    assert client.ask(f"{service.url}/models/news-zh", CHINESE) == {"summaries": [expected]}


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second", "chunk"])
def test_truncation_is_theirs_or_ours(client: Client, service: Process, truncation: str) -> None:
    expected = summarize(service, LONG, truncation="chunk" if truncation == "chunk" else "head")
    sent = {"truncation": truncation, "clean_up_tokenization_spaces": True}
    assert client.ask(service.url, LONG, sent) == {"summaries": [expected]}


def test_of_several_texts_these_clients_give_the_first_summary(client: Client, service: Process) -> None:
    assert client.ask(service.url, [NEWS, TEXT]) == {"summaries": [summarize(service, NEWS)]}


def test_request_of_hf_js_gives_all_summaries(service: Process) -> None:
    client = Client(NODE)
    expected = [summarize(service, text) for text in (NEWS, TEXT)]
    assert client.ask(service.url, [NEWS, TEXT], way="request") == {"summaries": expected}
    client.close()


def test_a_token_that_nobody_asked_for_does_no_harm_and_is_not_logged(client: Client, service: Process) -> None:
    assert "summaries" in client.ask(service.url, NEWS, token="s3cret-t0ken")
    assert "s3cret" not in str(service.lines("request"))


# --- errors ---


@pytest.mark.parametrize(
    ("inputs", "parameters", "told"),
    [
        (" ", {}, "/inputs must not be empty or blank"),
        ([NEWS, ""], {}, "/inputs/1 must not be empty or blank"),
        (LONG, {"truncation": "do_not_truncate"}, " tokens and the model reads 400; shorten it"),
        (NEWS, {"truncation": "tail"}, "/parameters/truncation Input should be 'do_not_truncate', 'longest_first'"),
        (NEWS, {"generate_parameters": {"num_beams": 99}}, "/parameters/generate_parameters/num_beams Input should be"),
        (NEWS, {"generate_parameters": {"max_length": 999}}, "/parameters/generate_parameters/max_length must be at"),
    ],
)
def test_a_422_says_what_is_wrong_and_where(
    client: Client, service: Process, inputs: Any, parameters: dict[str, Any], told: str
) -> None:
    error = error_of(client.ask(service.url, inputs, parameters), 422)
    assert told in error["message"]
    eventually(lambda: error["request_id"] in [line["request_id"] for line in service.lines("request")])


def test_an_unknown_model_is_told_by_name(client: Client, service: Process) -> None:
    error = error_of(client.ask(f"{service.url}/models/nope", NEWS), 404)
    assert "there is no model 'nope'; GET /models lists those there are" in error["message"]


def test_a_503_says_why_and_when_to_try_again(client: Client, small: Process) -> None:
    with full(small):
        error = error_of(client.ask(small.url, NEWS), 503)
    assert "1 texts wait of at most 1, 1 more do not fit" in error["message"]
    if client.kind is not NODE:  # hf.js keeps no headers
        assert int(error["retry_after"]) >= 1


def test_a_key_is_sent_as_a_token(client: Client, keyed: Process) -> None:
    assert "summaries" in client.ask(keyed.url, NEWS, token=KEY)
    assert "summaries" in client.ask(f"{keyed.url}/models/news-en", NEWS, token=KEY)
    error = error_of(client.ask(keyed.url, NEWS, token="wrong"), 401)
    assert "send an API key that counts here" in error["message"]


def test_a_429_says_why_and_when_to_try_again(client: Client, keyed: Process) -> None:
    answers = (client.ask(keyed.url, NEWS, token=SLOW_KEY) for _ in range(6))  # a minute of the clock may end meanwhile
    error = error_of(next(answer for answer in answers if "error" in answer), 429)
    assert "this key may send 1 requests a minute; try again in " in error["message"]
    eventually(lambda: error["request_id"] in [line["request_id"] for line in keyed.lines("request")])
    if client.kind is not NODE:
        assert 1 <= int(error["retry_after"]) <= 120
    if client.kind.packages in [hub(version).packages for version in VERSIONS if version[0] != "0"]:
        told = f"Retry after {error['retry_after']} seconds (0/1 requests remaining in current 60s window)"
        assert told in error["message"]


def test_a_client_that_gives_up_frees_its_rows(client: Client, small: Process) -> None:
    before = small.metric("precis_cancelled_total")
    small.hold()
    try:
        error_of(client.ask(small.url, NEWS, timeout=1.5), None)
        eventually(lambda: small.lines("request")[-1]["status"] == 499)
    finally:
        small.go_on()
    eventually(lambda: small.metric("precis_live_rows") == 0)
    assert small.metric("precis_cancelled_total") == before + 1


@contextmanager
def full(small: Process) -> Iterator[None]:
    """The queue is full: one text is decoded with all the rows, another waits."""
    small.hold()
    body = {"text": NEWS, "parameters": {"num_beams": 8}}
    with ThreadPoolExecutor(2) as pool:
        try:
            pool.submit(httpx2.post, f"{small.url}/summarize", json=body, timeout=PATIENCE)
            eventually(lambda: small.metric("precis_live_rows") > 0)
            pool.submit(httpx2.post, f"{small.url}/summarize", json=body, timeout=PATIENCE)
            eventually(lambda: small.metric("precis_queue_texts") == 1)
            yield
        finally:
            small.go_on()
