"""What the OpenAPI document says beyond the schemas: errors of every route, examples that can be posted."""

from typing import Any

from app.api.problems import MEDIA_TYPE
from app.errors import (
    DeadlineExceededError,
    MalformedBodyError,
    ModelFailedError,
    OverloadedError,
    RequestError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from app.examples import EVENTS, PROBLEM

DESCRIPTION = """
Writes short summaries of texts and tells the attention that produced them.

Offsets count Unicode code points of your own text, half-open `[start, end)`. Every error is
`application/problem+json`. Send `X-Request-ID` to find a request again in the log.
"""

EVENTS_TYPE = "text/event-stream"
EVENTS_MEANING = (
    "Server-sent events with JSON as their data. `token`: `text`, the piece `[start, end)` of the summary that this "
    "token made certain, perhaps empty; its `log_probability`; and `sources`, the spans of the text with the largest "
    "attention weights. Then `summary`, which is what is answered without `stream`, or `error`, a problem; at last "
    "`done`. Comments keep the connection alive. What goes wrong before the first token has a status of its own."
)
MEANINGS = {
    400: "The body is not JSON.",
    404: "There is no such route or model.",
    405: "The route does not answer this method.",
    413: "Body, text or batch is over its limit.",
    415: "The body is not declared as JSON.",
    422: "A field is wrong or unknown, or the text does not fit the model and `truncation` is `error`.",
    500: "The model failed on this text.",
    503: "The queue is full, the deadline cannot be met, or the service is loading or stopping.",
    504: "The deadline of the request passed.",
}
HEADERS = {405: ("Allow", "Methods that it answers."), 503: ("Retry-After", "Seconds to wait before trying again.")}
ERRORS: tuple[type[RequestError], ...] = (
    MalformedBodyError,
    TooLargeError,
    UnsupportedMediaTypeError,
    ModelFailedError,
    OverloadedError,
    DeadlineExceededError,
)
NAMES = {404: ("Not Found", "not-found"), 405: ("Method Not Allowed", "method-not-allowed")}
NAMES |= {error.status: (error.title, error.slug) for error in ERRORS}

Responses = dict[int | str, dict[str, Any]]


def errors(*statuses: int) -> Responses:
    """The error responses of a route."""
    return {status: _error(status) for status in statuses}


def request_examples(**examples: dict[str, Any]) -> dict[str, Any]:
    """Examples of a request body, by name."""
    named = {name: {"value": example} for name, example in examples.items()}
    return {"requestBody": {"content": {"application/json": {"examples": named}}}}


def event_stream() -> Responses:
    """The other form of an answer: one that is streamed."""
    content = {"schema": {"type": "string", "description": EVENTS_MEANING}, "example": EVENTS}
    return {
        200: {"description": "A summary, or the events of one that is streamed.", "content": {EVENTS_TYPE: content}}
    }


def _error(status: int) -> dict[str, Any]:
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": _example(status)}
    response: dict[str, Any] = {"description": MEANINGS[status], "content": {MEDIA_TYPE: content}}
    if status in HEADERS:
        name, meaning = HEADERS[status]
        response["headers"] = {name: {"description": meaning, "schema": {"type": "string"}}}
    return response


def _example(status: int) -> dict[str, Any]:
    if status == PROBLEM["status"]:
        return PROBLEM
    title, slug = NAMES[status]
    changes = {"type": f"urn:precis:problem:{slug}", "title": title, "status": status, "error_type": slug}
    return {**PROBLEM, **changes, "detail": MEANINGS[status], "error": MEANINGS[status], "errors": []}
