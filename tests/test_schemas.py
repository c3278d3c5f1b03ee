import inspect
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app import examples, schemas
from app.schemas import Answered, AttentionRequest, BatchRequest, Sent, SummarizeRequest

MODELS = {
    name: model
    for name, model in inspect.getmembers(schemas, inspect.isclass)
    if issubclass(model, BaseModel) and model.__module__ == schemas.__name__
}
WITHOUT_EXAMPLE = {"Sent", "Answered", "Options"}  # bases, never in the document


def errors(model: type[BaseModel], body: object) -> list[tuple[str, tuple[int | str, ...]]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return [(error["type"], error["loc"]) for error in caught.value.errors()]


def test_every_model_has_an_example_and_every_example_a_model() -> None:
    assert set(examples.EXAMPLES) == set(MODELS) - WITHOUT_EXAMPLE


@pytest.mark.parametrize("name", sorted(examples.EXAMPLES))
def test_an_example_is_valid_and_complete(name: str) -> None:
    example = examples.EXAMPLES[name]
    assert MODELS[name].model_validate(example).model_dump(exclude_unset=True) == example
    assert MODELS[name].model_json_schema()["examples"] == [example]


def test_the_items_of_the_attention_example_are_slices_of_its_texts() -> None:
    texts = {"source_tokens": examples.TEXT, "summary_tokens": examples.SUMMARY["summary"]}
    for name, text in texts.items():
        for item in examples.ATTENTION[name]:
            assert item["text"] == text[item["start"] : item["end"]]


def test_the_source_of_the_summary_example_is_its_text() -> None:
    assert examples.SOURCE_USE["characters"] == len(examples.TEXT)
    assert examples.PART["source"]["end"] == len(examples.TEXT)
    assert examples.PART["summary"]["end"] == len(examples.SUMMARY["summary"])


def test_the_token_of_the_example_stream_is_a_piece_of_its_summary() -> None:
    event = examples.TOKEN_EVENT
    assert event["text"] == examples.SUMMARY["summary"][event["start"] : event["end"]]


@pytest.mark.parametrize("model", [model for model in MODELS.values() if issubclass(model, Sent)])
def test_what_is_sent_is_strict_closed_and_frozen(model: type[BaseModel]) -> None:
    assert model.model_config.get("strict") is True
    theirs = model.__name__.startswith("HuggingFace")  # their clients send much that means nothing here
    assert model.model_config.get("extra") == ("ignore" if theirs else "forbid")
    assert model.model_config.get("frozen") is True


@pytest.mark.parametrize("model", [model for model in MODELS.values() if issubclass(model, Answered)])
def test_what_is_answered_may_gain_fields(model: type[BaseModel]) -> None:
    assert model.model_config.get("extra") == "ignore"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"text": ""}, ("blank", ("text",))),
        ({"text": " \n\u3000"}, ("blank", ("text",))),
        ({"text": "\ud800"}, ("string_unicode", ("text",))),
        ({"text": 5}, ("string_type", ("text",))),
        ({"text": None}, ("string_type", ("text",))),
        ({"stream": 0}, ("bool_type", ("stream",))),
        ({"truncation": "tail"}, ("literal_error", ("truncation",))),
        ({"model": ""}, ("string_too_short", ("model",))),
        ({"timeout_ms": 0}, ("greater_than_equal", ("timeout_ms",))),
        ({"timeout_ms": 600_001}, ("less_than_equal", ("timeout_ms",))),
        ({"timeout_ms": 5.0}, ("int_type", ("timeout_ms",))),
        ({"parameters": {"num_beams": 9}}, ("less_than_equal", ("parameters", "num_beams"))),
        ({"parameters": {"num_beams": 0}}, ("greater_than_equal", ("parameters", "num_beams"))),
        ({"parameters": {"num_beams": True}}, ("int_type", ("parameters", "num_beams"))),
        ({"parameters": {"num_beams": "4"}}, ("int_type", ("parameters", "num_beams"))),
        ({"parameters": {"max_length": 0}}, ("greater_than_equal", ("parameters", "max_length"))),
        ({"parameters": {"min_length": -1}}, ("greater_than_equal", ("parameters", "min_length"))),
        ({"parameters": {"length_penalty": float("nan")}}, ("finite_number", ("parameters", "length_penalty"))),
        ({"parameters": {"no_repeat_ngram_size": -1}}, ("greater_than_equal", ("parameters", "no_repeat_ngram_size"))),
        ({"parameters": {"repetition_penalty": 0.9}}, ("greater_than_equal", ("parameters", "repetition_penalty"))),
        ({"parameters": {"early_stopping": 1}}, ("early_stopping", ("parameters", "early_stopping"))),
        ({"parameters": {"early_stopping": "always"}}, ("early_stopping", ("parameters", "early_stopping"))),
        ({"parameters": {"temperature": 1}}, ("extra_forbidden", ("parameters", "temperature"))),
        ({"surprise": 1}, ("extra_forbidden", ("surprise",))),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], error: tuple[str, tuple[str, ...]]) -> None:
    assert errors(SummarizeRequest, {"text": "alpha", **change}) == [error]


def test_a_missing_text_is_named() -> None:
    assert errors(SummarizeRequest, {}) == [("missing", ("text",))]


def test_the_texts_of_a_batch_may_be_wrong_in_their_own_place() -> None:
    assert BatchRequest.model_validate({"texts": ["", "\ud800", "alpha"]}).texts == ["", "\ud800", "alpha"]


def test_a_batch_of_other_things_than_strings_is_refused_at_the_first() -> None:
    assert errors(BatchRequest, {"texts": ["alpha", 1, 2, 3]}) == [("string_type", ("texts", 1))]
    assert errors(BatchRequest, {"texts": []}) == [("too_short", ("texts",))]


def test_a_batch_is_not_streamed() -> None:
    assert errors(BatchRequest, {"texts": ["alpha"], "stream": True}) == [("not_available", ("stream",))]
    assert BatchRequest.model_validate({"texts": ["alpha"], "stream": False}).stream is False


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"summary": ""}, ("blank", ("summary",))),
        ({"summary": "alpha", "truncation": "chunk"}, ("chunk", ("summary",))),
        ({"level": "sentence"}, ("literal_error", ("level",))),
        ({"format": "sparse"}, ("literal_error", ("format",))),
        ({"top_k": 0}, ("greater_than_equal", ("top_k",))),
        ({"precision": 0}, ("greater_than_equal", ("precision",))),
        ({"precision": 9}, ("less_than_equal", ("precision",))),
        ({"stream": False}, ("extra_forbidden", ("stream",))),
    ],
)
def test_a_wrong_field_about_attention_is_named(change: dict[str, Any], error: tuple[str, tuple[str, ...]]) -> None:
    assert errors(AttentionRequest, {"text": "alpha", **change}) == [error]
