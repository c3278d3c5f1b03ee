"""What `/summarize` answers with `stream`, on the fake model."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from app import schemas
from tests.api.events import Event, events_of
from tests.fakes import NOT_A_NUMBER, UNENCODABLE, FakeModel

TEXT = "alpha bravo charlie delta echo foxtrot"
LONG = "alpha bravo charlie. " * 30


def streamed(client: TestClient, **body: Any) -> list[Event]:
    response = client.post("/summarize", json={"text": TEXT, "stream": True, **body})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    return list(events_of(response.text.splitlines()))


def tokens_of(events: list[Event]) -> list[dict[str, Any]]:
    return [data for name, data in events if name == "token"]


def greedy(client: TestClient, path: str = "/summarize", **body: Any) -> dict[str, Any]:
    response = client.post(path, json={"text": TEXT, "parameters": {"num_beams": 1}, **body})
    content: dict[str, Any] = response.json()
    return content


def without_timing(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name not in ("id", "timing")}


def test_tokens_come_then_the_summary_then_the_end(client: TestClient) -> None:
    events = streamed(client)
    tokens = tokens_of(events)
    assert [name for name, _ in events] == ["token"] * len(tokens) + ["summary", "done"]
    assert all(schemas.TokenEvent.model_validate(token).model_dump() == token for token in tokens)
    summary = events[-2][1]
    assert schemas.Summary.model_validate(summary).model_dump(exclude_unset=True) == summary
    assert len(tokens) == summary["usage"]["summary_tokens"]


@pytest.mark.parametrize(("text", "truncation"), [(TEXT, "head"), (LONG, "chunk")])
def test_the_pieces_are_the_summary(client: TestClient, text: str, truncation: str) -> None:
    events = streamed(client, text=text, truncation=truncation)
    summary = events[-2][1]
    assert "".join(token["text"] for token in tokens_of(events)) == summary["summary"]
    for token in tokens_of(events):
        assert token["text"] == summary["summary"][token["start"] : token["end"]]


@pytest.mark.parametrize(("text", "truncation"), [(TEXT, "head"), (LONG, "chunk")])
def test_the_summary_is_the_one_without_stream(client: TestClient, text: str, truncation: str) -> None:
    summary = streamed(client, text=text, truncation=truncation)[-2][1]
    assert without_timing(summary) == without_timing(greedy(client, text=text, truncation=truncation))


@pytest.mark.parametrize(("text", "truncation"), [(TEXT, "head"), (LONG, "chunk")])
def test_log_probabilities_and_sources_are_those_of_attention(client: TestClient, text: str, truncation: str) -> None:
    tokens = tokens_of(streamed(client, text=text, truncation=truncation))
    attention = greedy(client, "/attention", text=text, truncation=truncation, format="top")["attention"]
    told = [item["log_probability"] for item in attention["summary_tokens"]]
    assert [token["log_probability"] for token in tokens] == told
    spans = [{name: item[name] for name in ("start", "end")} for item in attention["source_tokens"]]
    largest = [[{**spans[one["source"]], "weight": one["weight"]} for one in row] for row in attention["top"]]
    assert [token["sources"] for token in tokens] == largest


@pytest.mark.parametrize("parameters", [{}, {"num_beams": 1}, {"num_beams": None}])
def test_without_a_word_about_beams_there_is_one(
    client: TestClient, model: FakeModel, parameters: dict[str, Any]
) -> None:
    assert model.info.defaults.num_beams > 1
    assert streamed(client, parameters=parameters)[-1] == ("done", {})
    assert {len(rows) for rows in model.steps} == {1}


def test_several_beams_are_422(client: TestClient) -> None:
    response = client.post("/summarize", json={"text": TEXT, "stream": True, "parameters": {"num_beams": 2}})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ["/parameters/num_beams"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"text": " "}, 422),
        ({"text": "alpha " * 70, "truncation": "error"}, 422),
        ({"text": "\u200b"}, 422),
        ({"text": "a" * 2001}, 413),
        ({"model": "nope"}, 404),
        ({"text": UNENCODABLE}, 500),
        ({"text": NOT_A_NUMBER}, 500),
    ],
)
def test_what_goes_wrong_before_the_first_token_has_a_status(
    client: TestClient, change: dict[str, Any], status: int
) -> None:
    response = client.post("/summarize", json={"text": TEXT, "stream": True, **change})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
