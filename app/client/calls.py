"""What is asked: options as callers write them, and the request that they become. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote

from app.schemas import Answered, AttentionResponse, Health, Model, ModelList, Parameters, Summary, Truncation

MOST_TIMEOUT_MS = 600_000  # more than that the service refuses

A = TypeVar("A", bound=Answered)


class Options(TypedDict, total=False):
    """What may be chosen for a summary. What is left out, or None, is the checkpoint's own default.

    `timeout` is in seconds, over all attempts; that of the client when left out.
    """

    timeout: float | None
    model: str | None
    truncation: Truncation | None
    num_beams: int | None
    max_length: int | None
    min_length: int | None
    length_penalty: float | None
    no_repeat_ngram_size: int | None
    numbers_from_source: bool | None
    repetition_penalty: float | None
    early_stopping: bool | Literal["never"] | None


class AttentionOptions(Options, total=False):
    """And for its attention."""

    summary: str | None
    level: Literal["token", "word"] | None
    format: Literal["dense", "top"] | None
    top_k: int | None
    precision: int | None
    layers: list[int] | None
    heads: list[int] | None
    reduce: Literal["mean", "max"] | None
    drop_sinks: bool | None


@dataclass(frozen=True, slots=True)
class Call(Generic[A]):
    """One request, whoever sends it and however often, and the type of its answer."""

    method: str
    path: str
    answer: type[A]
    body: Mapping[str, Any] | None = None
    timeout: float | None = None
    accept: str = "application/json"
    retried: bool = True

    def content(self, seconds_left: float) -> bytes | None:
        """The body as it is sent now. The service is told how long its answer is of use."""
        if self.body is None:
            return None
        timeout_ms = min(max(1, int(seconds_left * 1000)), MOST_TIMEOUT_MS)
        return json.dumps({**self.body, "timeout_ms": timeout_ms}).encode()  # as ASCII: no text is impossible to send


def summarize(text: str, options: Mapping[str, Any]) -> Call[Summary]:
    return Call("POST", "/summarize", Summary, _body(text, options), options.get("timeout"))


def stream(text: str, options: Mapping[str, Any]) -> Call[Summary]:
    call = summarize(text, options)
    return replace(call, body={**(call.body or {}), "stream": True}, accept="text/event-stream")


def attention(text: str, options: Mapping[str, Any]) -> Call[AttentionResponse]:
    return Call("POST", "/attention", AttentionResponse, _body(text, options), options.get("timeout"))


def models() -> Call[ModelList]:
    return Call("GET", "/models", ModelList)


def model(name: str) -> Call[Model]:
    return Call("GET", f"/models/{quote(name, safe='')}", Model)


def ready() -> Call[Health]:
    return Call("GET", "/readyz", Health, retried=False)


def _body(text: str, options: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in options.items() if value is not None and name != "timeout"}
    parameters = {name: chosen.pop(name) for name in Parameters.model_fields if name in chosen}
    return {"text": text, **chosen, "parameters": parameters}
