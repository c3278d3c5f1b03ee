"""Hugging Face's summarization task on the fake model; tests/huggingface/ has the real clients."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message

from app.api import work
from app.api.service import Service
from app.config import Settings
from app.main import create_app
from app.models.base import Limits
from tests.api.asgi import scope_of
from tests.api.test_summaries import problem_of
from tests.api.waiting import eventually
from tests.fakes import UNENCODABLE, UNSTEPPABLE, FakeModel, fake_info

TEXT = "alpha bravo charlie delta echo foxtrot"
OTHER = "golf hotel india"
LONG = "alpha bravo charlie. " * 30
PATHS = ["/", "/models/news-en"]
# A value of every parameter that is not the model's default, and one that is wrong.
PARAMETERS: dict[str, Any] = {
    "num_beams": 1,
    "max_length": 3,
    "min_length": 7,
    "length_penalty": -3.0,
    "no_repeat_ngram_size": 1,
    "numbers_from_source": False,
    "repetition_penalty": 2.0,
    "early_stopping": True,
}
WRONG: dict[str, Any] = {
    "num_beams": 9,
    "max_length": 0,
    "min_length": 9,  # above max_length of the model
    "length_penalty": "1.0",
    "no_repeat_ngram_size": -1,
    "numbers_from_source": 1,
    "repetition_penalty": 0.5,
    "early_stopping": "always",
}
UNKNOWN: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.7,
    "max_new_tokens": 2,
    "clean_up_tokenization_spaces": 3,
}


def ask(client: TestClient, inputs: Any = TEXT, path: str = "/", **fields: Any) -> Response:
    return client.post(path, json={"inputs": inputs, **fields})


def summaries_of(response: Response) -> list[str]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    answer: list[dict[str, str]] = response.json()
    assert all(list(each) == ["summary_text"] for each in answer)
    return [each["summary_text"] for each in answer]


def summary_of(client: TestClient, text: str = TEXT, **fields: Any) -> str:
    response = client.post("/summarize", json={"text": text, **fields})
    assert response.status_code == 200
    summary: str = response.json()["summary"]
    return summary


# --- what is answered ---


@pytest.mark.parametrize("path", PATHS)
def test_one_text_is_answered_with_an_array_of_one_summary(client: TestClient, path: str) -> None:
    response = ask(client, path=path)
    assert summaries_of(response) == [summary_of(client)]
    assert response.headers["x-request-id"]
    assert "total;dur=" in response.headers["server-timing"]


@pytest.mark.parametrize("path", PATHS)
def test_several_texts_are_answered_in_order(client: TestClient, path: str) -> None:
    texts = [TEXT, OTHER, TEXT, "juliett"]
    assert summaries_of(ask(client, texts, path=path)) == [summary_of(client, text) for text in texts]


def test_a_list_of_one_text_is_answered_like_the_text(client: TestClient) -> None:
    assert summaries_of(ask(client, [TEXT])) == summaries_of(ask(client, TEXT))


def test_the_path_chooses_the_model_and_the_root_is_the_default_one(settings: Settings, model: FakeModel) -> None:
    other = FakeModel(fake_info("other", defaults=replace(model.info.defaults, max_length=1)))
    with TestClient(create_app(settings, models=[model, other])) as client:
        assert summaries_of(ask(client, path="/models/other")) == [summary_of(client, model="other")]
        assert summaries_of(ask(client)) == summaries_of(ask(client, path="/models/news-en")) == [summary_of(client)]
        assert summary_of(client, model="other") != summary_of(client)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_means_the_same_flat_nested_and_in_summarize(client: TestClient, name: str) -> None:
    parameters = {name: PARAMETERS[name]}
    expected = [summary_of(client, parameters=parameters)]
    assert summaries_of(ask(client, parameters=parameters)) == expected
    assert summaries_of(ask(client, parameters={"generate_parameters": parameters})) == expected


def test_parameters_may_stand_in_both_places_and_the_nested_ones_win(client: TestClient) -> None:
    flat = {"num_beams": 1, "max_length": 2, "min_length": 2}
    sent = {**flat, "generate_parameters": {"max_length": 4, "min_length": 4, "num_beams": None}}
    expected = summary_of(client, parameters={"num_beams": 1, "max_length": 4, "min_length": 4})
    assert summaries_of(ask(client, parameters=sent)) == [expected]
    assert expected != summary_of(client, parameters=flat)


@pytest.mark.parametrize("parameters", [None, {}, {"generate_parameters": None}, {"truncation": None}])
def test_what_is_left_out_may_also_be_null(client: TestClient, parameters: Any) -> None:
    assert summaries_of(ask(client, parameters=parameters)) == [summary_of(client)]


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"use_cache": False, "wait_for_model": True}, "accessToken": "x", "stream": False},
        {"parameters": UNKNOWN},
        {"parameters": {"generate_parameters": UNKNOWN}},
    ],
)
def test_what_is_not_known_is_ignored(client: TestClient, fields: dict[str, Any]) -> None:
    assert summaries_of(ask(client, **fields)) == [summary_of(client)]


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second", "head", None])
def test_their_truncation_keeps_the_beginning(client: TestClient, truncation: str | None) -> None:
    assert summaries_of(ask(client, LONG, parameters={"truncation": truncation})) == [summary_of(client, LONG)]


@pytest.mark.parametrize("truncation", ["do_not_truncate", "error"])
def test_a_text_that_may_not_be_cut_and_does_not_fit_is_422(client: TestClient, truncation: str) -> None:
    problem = problem_of(ask(client, LONG, parameters={"truncation": truncation}), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/inputs"]
    assert problem["error"].startswith("/inputs has 90 tokens and the model reads 60")
    assert summaries_of(ask(client, parameters={"truncation": truncation})) == [summary_of(client)]


def test_our_own_truncation_may_be_asked_for(client: TestClient) -> None:
    expected = [summary_of(client, LONG, truncation="chunk")]
    assert summaries_of(ask(client, LONG, parameters={"truncation": "chunk"})) == expected


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_whatever_stands_in_unknown_fields_changes_nothing(shared: TestClient, value: object) -> None:
    sent = {"surprise": value, "generate_parameters": {"surprise": value}}
    assert summaries_of(ask(shared, OTHER, parameters=sent, surprise=value)) == summaries_of(ask(shared, OTHER))


# Of the right kind, though the model may not take them.
some_parameters = st.fixed_dictionaries(
    {},
    optional={
        "num_beams": st.none() | st.integers(1, 6),
        "max_length": st.none() | st.integers(1, 14),
        "min_length": st.none() | st.integers(0, 14),
        "length_penalty": st.none() | st.floats(-10, 10),
        "no_repeat_ngram_size": st.none() | st.integers(0, 3),
        "numbers_from_source": st.none() | st.booleans(),
        "repetition_penalty": st.none() | st.floats(1, 10),
        "early_stopping": st.none() | st.booleans() | st.just("never"),
    },
)


@given(flat=some_parameters, nested=some_parameters)
def test_parameters_in_both_places_are_those_of_summarize(
    shared: TestClient, flat: dict[str, Any], nested: dict[str, Any]
) -> None:
    merged = {**flat, **{name: value for name, value in nested.items() if value is not None}}
    expected = shared.post("/summarize", json={"text": TEXT, "parameters": merged})
    response = ask(shared, parameters={**flat, "generate_parameters": nested})
    assert response.status_code == expected.status_code
    if expected.status_code == 200:
        assert summaries_of(response) == [expected.json()["summary"]]
        return
    for theirs, ours in zip(response.json()["errors"], expected.json()["errors"], strict=True):
        name = ours["pointer"].rsplit("/", 1)[1]
        place = "/parameters/generate_parameters" if nested.get(name) is not None else "/parameters"
        assert theirs == {**ours, "pointer": f"{place}/{name}"}


@pytest.fixture(scope="module")
def shared() -> Iterator[TestClient]:
    """One service for a property that is tried many times."""
    with TestClient(create_app(Settings(max_rows=8), models=[FakeModel(fake_info("news-en"))])) as client:
        yield client


# --- what is wrong ---


@pytest.mark.parametrize(
    ("fields", "pointer", "message"),
    [
        ({}, "/inputs", "is required"),
        ({"inputs": None}, "/inputs", "must be a string or an array of strings"),
        ({"inputs": {"text": TEXT}}, "/inputs", "must be a string or an array of strings"),
        ({"inputs": []}, "/inputs", "List should have at least 1 item after validation, not 0"),
        ({"inputs": [TEXT, 5, None]}, "/inputs/1", "must be a string"),
        ({"inputs": [[TEXT]]}, "/inputs/0", "must be a string"),
        ({"inputs": TEXT, "parameters": []}, "/parameters", "must be a JSON object"),
        ({"inputs": TEXT, "parameters": {"generate_parameters": 4}}, "/parameters/generate_parameters", None),
        ({"inputs": TEXT, "parameters": {"truncation": True}}, "/parameters/truncation", None),
        ({"inputs": TEXT, "parameters": {"truncation": "tail"}}, "/parameters/truncation", None),
    ],
)
def test_a_wrong_field_is_422_and_named(
    client: TestClient, fields: dict[str, Any], pointer: str, message: str | None
) -> None:
    (error,) = problem_of(client.post("/", json=fields), 422)["errors"]
    assert error["pointer"] == pointer
    assert message in (error["message"], None)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_parameter_is_422_where_it_stands(client: TestClient, path: str, name: str) -> None:
    wrong = {name: WRONG[name]}
    flat = problem_of(ask(client, path=path, parameters=wrong), 422)
    assert [error["pointer"] for error in flat["errors"]] == [f"/parameters/{name}"]
    nested = problem_of(ask(client, path=path, parameters={"generate_parameters": wrong}), 422)
    assert [error["pointer"] for error in nested["errors"]] == [f"/parameters/generate_parameters/{name}"]
    assert f"/parameters/generate_parameters/{name} " in nested["error"]


def test_what_the_model_does_not_take_is_told_where_it_stands(client: TestClient, model: FakeModel) -> None:
    model.info = replace(model.info, limits=Limits(60, 64, max_beams=2))
    sent = {"num_beams": 3, "generate_parameters": {"max_length": 65}}
    problem = problem_of(ask(client, parameters=sent), 422)
    assert problem["errors"] == [
        {"pointer": "/parameters/num_beams", "message": "must be at most 2 for news-en"},
        {"pointer": "/parameters/generate_parameters/max_length", "message": "must be at most 64 for news-en"},
    ]


@pytest.mark.parametrize(
    ("text", "status"),
    [("", 422), (" \n", 422), ("\u200b", 422), ("a" * 2001, 413), (UNENCODABLE, 500), (UNSTEPPABLE, 500)],
)
def test_one_bad_text_fails_all_with_its_own_status_and_place(client: TestClient, text: str, status: int) -> None:
    problem = problem_of(ask(client, [TEXT, text, OTHER]), status)
    assert [error["pointer"] for error in problem["errors"]] == ["/inputs/1"]
    assert problem["error"].startswith("/inputs/1 ")
    alone = problem_of(ask(client, text), status)
    assert [error["pointer"] for error in alone["errors"]] == ["/inputs"]
    assert summaries_of(ask(client, [TEXT, OTHER])) == [summary_of(client), summary_of(client, OTHER)]


def test_a_text_that_does_not_fit_is_told_by_its_place(client: TestClient) -> None:
    problem = problem_of(ask(client, [TEXT, LONG], parameters={"truncation": "do_not_truncate"}), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/inputs/1"]


@pytest.mark.parametrize(("inputs", "pointer"), [('"\\ud800"', "/inputs"), ('["alpha", "\\ud800"]', "/inputs/1")])
def test_a_lone_surrogate_is_422(client: TestClient, inputs: str, pointer: str) -> None:
    response = client.post("/", content=f'{{"inputs": {inputs}}}', headers={"Content-Type": "application/json"})
    assert [error["pointer"] for error in problem_of(response, 422)["errors"]] == [pointer]


def test_too_many_texts_are_413(client: TestClient, settings: Settings) -> None:
    assert len(summaries_of(ask(client, ["alpha"] * settings.max_batch_texts))) == settings.max_batch_texts
    problem = problem_of(ask(client, ["alpha"] * (settings.max_batch_texts + 1)), 413)
    assert problem["errors"][0]["pointer"] == "/inputs"


@pytest.mark.parametrize("path", PATHS)
def test_a_body_may_be_as_large_as_that_of_a_batch(client: TestClient, settings: Settings, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    largest = settings.max_batch_body_bytes
    assert client.post(path, content=b" " * largest, headers=headers).status_code == 400
    assert client.post(path, content=b" " * (largest + 1), headers=headers).status_code == 413


def test_an_unknown_model_is_404(client: TestClient) -> None:
    problem = problem_of(ask(client, path="/models/nope"), 404)
    assert problem["error_type"] == "model-not-found"
    assert problem["instance"] == "/models/nope"


@pytest.mark.parametrize("path", PATHS)
def test_it_must_be_declared_as_json_and_have_no_query(client: TestClient, path: str) -> None:
    assert client.post(path, content=b"{}").status_code == 415
    assert client.post(f"{path}?wait=1", json={"inputs": TEXT}).status_code == 422


def test_a_path_of_two_methods_names_both_where_it_answers_neither(client: TestClient) -> None:
    response = client.delete("/models/news-en")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD, POST"


# --- when there is much to do, little time, or nobody left ---


@pytest.mark.parametrize("inputs", [TEXT, [TEXT, OTHER]])
@pytest.mark.parametrize("path", PATHS)
def test_a_service_that_stops_refuses_work(client: TestClient, service: Service, path: str, inputs: Any) -> None:
    service.draining = True
    response = ask(client, inputs, path=path)
    assert problem_of(response, 503)["error_type"] == "draining"
    assert int(response.headers["retry-after"]) >= 1


def test_a_full_queue_is_503_with_retry_after_and_takes_no_part_of_it(
    client: TestClient, service: Service, model: FakeModel, settings: Settings
) -> None:
    model.gate.close()
    beams: dict[str, Any] = {"parameters": {"num_beams": settings.max_rows}}
    with ThreadPoolExecutor(settings.max_queue) as pool:
        pool.submit(ask, client, **beams)
        model.gate.wait_for_arrival(1)
        waiting = [pool.submit(ask, client, **beams) for _ in range(settings.max_queue - 1)]
        eventually(lambda: service.metrics.queue_texts.labels("news-en")._value.get() == len(waiting))
        response = ask(client, [OTHER, "juliett"])
        assert problem_of(response, 503)["error_type"] == "overloaded"
        assert int(response.headers["retry-after"]) >= 1
        model.gate.open()
        assert [each.result().status_code for each in waiting] == [200] * len(waiting)
    assert model.tokenize(OTHER).ids not in [source for sources in model.encodings for source in sources]


@pytest.mark.parametrize("inputs", [TEXT, [TEXT, OTHER]])
def test_the_deadline_is_that_of_the_service(settings: Settings, model: FakeModel, inputs: Any) -> None:
    model.before_step = lambda _rows: time.sleep(0.002)
    with TestClient(create_app(settings.model_copy(update={"timeout_ms": 1}), models=[model])) as client:
        assert problem_of(ask(client, inputs), 504)["error_type"] == "deadline-exceeded"


def test_nobody_waits_for_an_engine_that_hangs(
    settings: Settings, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MARGIN_SECONDS", 0.01)
    model.gate.close()
    with TestClient(create_app(settings.model_copy(update={"timeout_ms": 1}), models=[model])) as client:
        problem_of(ask(client, [TEXT, OTHER]), 504)
        model.gate.open()


@pytest.mark.parametrize(("path", "route"), [("/", "/"), ("/models/news-en", "/models/{name}")])
def test_a_caller_who_leaves_frees_its_rows(
    app: FastAPI, service: Service, model: FakeModel, path: str, route: str
) -> None:
    asyncio.run(_leave_while_decoding(app, model, path))
    eventually(lambda: service.metrics.cancelled._value.get() == 2)
    assert service.metrics.requests.labels(route, "499")._value.get() == 1


async def _leave_while_decoding(app: FastAPI, model: FakeModel, path: str) -> None:
    async with app.router.lifespan_context(app):
        model.gate.close()
        left, sent = asyncio.Event(), list[Message]()
        body = iter([json.dumps({"inputs": [TEXT, OTHER]}).encode()])

        async def receive() -> Message:
            if (chunk := next(body, None)) is not None:
                return {"type": "http.request", "body": chunk, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        leaving = asyncio.create_task(app(scope_of("POST", path, {"Content-Type": "application/json"}), receive, send))
        await asyncio.to_thread(model.gate.wait_for_arrival, 1)
        left.set()
        await leaving
        assert sent == []
        model.gate.open()
        await asyncio.to_thread(eventually, lambda: model.occupied == 0)


def test_a_request_is_counted_and_its_id_is_its_own(client: TestClient) -> None:
    response = client.post("/models/news-en", json={"inputs": [TEXT, OTHER]}, headers={"X-Request-ID": "mine"})
    assert response.headers["x-request-id"] == "mine"
    problem = problem_of(client.post("/", json={"inputs": ""}, headers={"X-Request-ID": "wrong"}), 422)
    assert problem["request_id"] == "wrong"
    metrics = client.get("/metrics").text
    assert 'precis_requests_total{route="/models/{name}",status="200"} 1.0' in metrics
    assert 'precis_requests_total{route="/",status="422"} 1.0' in metrics
