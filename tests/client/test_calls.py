"""What is asked is what the API takes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client import calls
from app.client.calls import MOST_TIMEOUT_MS, AttentionOptions, Options
from app.schemas import AttentionRequest, Parameters, SummarizeRequest

CHOSEN: Options = {
    "model": "news-en",
    "truncation": "error",
    "num_beams": 2,
    "max_length": 20,
    "min_length": 1,
    "length_penalty": 0.5,
    "no_repeat_ngram_size": 2,
    "numbers_from_source": False,
    "repetition_penalty": 1.5,
    "early_stopping": "never",
    "timeout": 9.0,
}
OF_ATTENTION: AttentionOptions = {
    **CHOSEN,
    "summary": "given",
    "level": "word",
    "format": "top",
    "top_k": 3,
    "precision": 4,
    "layers": [2],
    "heads": [0, 1],
    "reduce": "max",
    "drop_sinks": True,
}


def test_everything_that_the_api_takes_can_be_chosen() -> None:
    taken = SummarizeRequest.model_fields.keys() | Parameters.model_fields.keys()
    renamed = taken - {"text", "parameters", "stream", "timeout_ms"} | {"timeout"}
    assert Options.__annotations__.keys() == renamed == CHOSEN.keys()
    of_attention = AttentionRequest.model_fields.keys() - SummarizeRequest.model_fields.keys()
    assert AttentionOptions.__annotations__.keys() - Options.__annotations__.keys() == of_attention
    assert OF_ATTENTION.keys() == renamed | of_attention


def test_what_is_chosen_is_what_the_api_reads() -> None:
    read = SummarizeRequest.model_validate_json(calls.summarize("text", CHOSEN).content(1.5) or b"")
    parameters = {name: CHOSEN.get(name) for name in Parameters.model_fields}
    assert read.parameters.model_dump() == parameters
    assert (read.text, read.model, read.truncation, read.timeout_ms) == ("text", "news-en", "error", 1500)
    told = AttentionRequest.model_validate_json(calls.attention("text", OF_ATTENTION).content(1.5) or b"")
    assert (told.summary, told.level, told.format, told.top_k, told.precision) == ("given", "word", "top", 3, 4)
    assert (told.layers, told.heads, told.reduce, told.drop_sinks) == ([2], [0, 1], "max", True)


def test_what_is_not_chosen_is_left_to_the_service() -> None:
    nothing: dict[str, Any] = dict.fromkeys(AttentionOptions.__annotations__)
    assert calls.attention("text", nothing) == calls.attention("text", {})
    assert json.loads(calls.attention("text", {}).content(1) or b"") == {
        "text": "text",
        "parameters": {},
        "timeout_ms": 1000,
    }


def test_a_call_keeps_the_deadline_that_was_chosen_for_it() -> None:
    for call in (calls.summarize("text", CHOSEN), calls.stream("text", CHOSEN), calls.attention("text", OF_ATTENTION)):
        assert call.timeout == 9
    assert calls.summarize("text", {}).timeout is None


@given(st.floats(1e-9, 1e12))
def test_the_service_is_told_the_time_that_is_left_in_its_own_limits(left: float) -> None:
    told = json.loads(calls.summarize("text", {}).content(left) or b"")["timeout_ms"]
    assert 1 <= told <= MOST_TIMEOUT_MS
    assert told <= max(1, left * 1000)


def test_the_limit_of_the_service_is_the_schemas() -> None:
    SummarizeRequest(text="text", timeout_ms=MOST_TIMEOUT_MS)
    with pytest.raises(ValueError, match="timeout_ms"):
        SummarizeRequest(text="text", timeout_ms=MOST_TIMEOUT_MS + 1)


@given(st.text(st.characters()))
def test_every_text_can_be_sent_lone_surrogates_too(text: str) -> None:
    assert json.loads(calls.summarize(text, {}).content(1) or b"")["text"] == text


@pytest.mark.parametrize(("name", "path"), [("news-en", "/models/news-en"), ("a/b?c", "/models/a%2Fb%3Fc")])
def test_a_models_name_is_one_step_of_the_path(name: str, path: str) -> None:
    assert calls.model(name).path == path
