"""What the OpenAPI document says beyond the schemas: errors and headers of every route, examples that can be posted."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Path
from starlette.exceptions import HTTPException

from app.api.access import ADMINISTRATION, FOR_ADMINISTRATORS, HEALTH, UNKNOWN
from app.api.problems import MEDIA_TYPE, Failure, describe, invalid
from app.errors import (
    DeadlineExceededError,
    DrainingError,
    FieldError,
    ForbiddenError,
    MalformedBodyError,
    ModelFailedError,
    ModelNotFoundError,
    OverloadedError,
    Quota,
    ReloadFailedError,
    ReloadRunningError,
    TooLargeError,
    TooManyRequestsError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from app.examples import EVENTS, EXAMPLES, FIELD_PROBLEM, PROBLEM, RELOAD_FAILED
from app.schemas import TokenEvent

JsonObject = dict[str, Any]
Responses = dict[int | str, JsonObject]

DESCRIPTION = """
Writes short summaries of texts and tells the attention that produced them.

Offsets count Unicode code points of your own text, half-open `[start, end)`. Every error is
`application/problem+json`. `HEAD` works wherever `GET` does. Fields and query parameters that nobody knows are 422, by
name. Answers may gain fields within a version, and lose none.

Where API keys are on, everything but the health of the service wants one, as `Authorization: Bearer KEY`.

Send `X-Request-ID` to find a request again in the log, and `traceparent` (W3C) to continue a trace.
"""
# Relative to the document, so that it also holds behind a proxy that adds a prefix.
SERVERS: list[JsonObject] = [{"url": ".", "description": "The service that this document comes from."}]
TAGS: list[JsonObject] = [
    {"name": "Summaries", "description": "Summaries, and the attention behind them."},
    {"name": "Hugging Face", "description": "Hugging Face's summarization task, for clients that exist."},
    {"name": "Models", "description": "What is loaded, and what it can do."},
    {"name": "Operations", "description": "For those who run the service."},
    {"name": "Administration", "description": "For administrators: what changes the service."},
]

EVENTS_TYPE = "text/event-stream"
EVENTS_MEANING = (
    "Server-sent events, each with JSON as its data: `token` for every token, a `TokenEvent`; then `summary`, the "
    "`Summary` that is answered without `stream`, or `error`, a `Problem`; and at last `done`. Comments keep the "
    "connection alive. What goes wrong before the first token has a status of its own."
)
ANYWHERE = (405, 422, 500)  # errors of every route
TOO_LONG = "has 200001 characters; a text may have 200000"
REQUEST_ID: JsonObject = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}
PARAMETERS: dict[str, JsonObject] = {
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "Name of this request; one that does not fit the pattern is replaced.",
        "schema": REQUEST_ID,
    }
}
KEY: JsonObject = {"type": "http", "scheme": "bearer", "description": "An API key; not looked at while keys are off."}
HEADERS: dict[str, JsonObject] = {
    "X-Request-ID": {
        "description": "Name of this request: the one that was sent, or a new one.",
        "schema": REQUEST_ID,
        "example": PROBLEM["request_id"],
    },
    "Server-Timing": {
        "description": "The timing of the summary, in milliseconds.",
        "schema": {"type": "string"},
        "example": "queue;dur=1.200, encode;dur=4.000, decode;dur=31.000, total;dur=38.100",
    },
    "Retry-After": {
        "description": "Seconds to wait before trying again, from the measured queue or from the limit of the key.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 2,
    },
    "Allow": {
        "description": "The methods that the route answers.",
        "schema": {"type": "string"},
        "example": "POST",
    },
    "WWW-Authenticate": {
        "description": "How a key is sent.",
        "schema": {"type": "string"},
        "example": "Bearer",
    },
    "RateLimit": {
        "description": "The limit that is used up: what is left of it (`r`), and the seconds to wait (`t`).",
        "schema": {"type": "string"},
        "example": '"requests";r=0;t=7',
    },
    "RateLimit-Policy": {
        "description": "The whole limit: so many (`q`) requests or characters in so many seconds (`w`).",
        "schema": {"type": "string"},
        "example": '"requests";q=60;w=60',
    },
}
# By component: what its status means, and errors that are answered so.
ERRORS: dict[str, tuple[str, Sequence[Exception]]] = {
    "MalformedJson": (
        "The body is not JSON.",
        [MalformedBodyError("the body is not JSON: Expecting value at line 1, column 10")],
    ),
    "Unauthorized": (
        "API keys are on, and none that counts was sent.",
        [UnauthorizedError(UNKNOWN)],
    ),
    "Forbidden": (
        "This is for administrators.",
        [ForbiddenError(FOR_ADMINISTRATORS)],
    ),
    "NotFound": (
        "There is no such model, or no such route.",
        [ModelNotFoundError("there is no model 'nope'; GET /models lists those there are"), HTTPException(404)],
    ),
    "MethodNotAllowed": (
        "The route does not answer this method.",
        [HTTPException(405, headers={"Allow": "POST"})],
    ),
    "Conflict": (
        "A reload of this model is running already.",
        [ReloadRunningError("model 'news-en' is being reloaded, or its old checkpoint still answers what it had")],
    ),
    "ContentTooLarge": (
        "Body, text or batch is over its limit.",
        [TooLargeError(f"/text {TOO_LONG}", (FieldError("/text", TOO_LONG),))],
    ),
    "UnsupportedMediaType": (
        "The body is not declared as JSON.",
        [UnsupportedMediaTypeError("send the body as JSON, with the header 'Content-Type: application/json'")],
    ),
    "InvalidRequest": (
        "A field is wrong or unknown, or the text does not fit the model and `truncation` is `error`; or, of a reload, "
        "what lies in the model store cannot be served.",
        [invalid((FieldError(**FIELD_PROBLEM),)), ReloadFailedError(RELOAD_FAILED)],
    ),
    "TooManyRequests": (
        "A limit of the API key is used up.",
        [
            TooManyRequestsError(
                "this key may send 60 requests a minute; try again in 7 s", 7, Quota("requests", 60, 0, 60)
            )
        ],
    ),
    "Failed": (
        "The model failed on this text, or something happened that nobody foresaw.",
        [ModelFailedError("The model failed on this text; other texts are not affected."), Exception()],
    ),
    "Unavailable": (
        "The queue is full, the deadline cannot be met, or the service is loading or stopping.",
        [
            OverloadedError("1024 texts wait of at most 1024, 1 more do not fit.", 2),
            DrainingError("the service is stopping", 2),
        ],
    ),
    "DeadlineExceeded": (
        "The deadline of the request passed.",
        [DeadlineExceededError("The summary could not be ready in 60 s.")],
    ),
}
COMPONENTS = {describe(examples[0]).status: name for name, (_, examples) in ERRORS.items()}
ModelName = Annotated[str, Path(description="Name of a model, as `GET /models` tells it.", examples=["news-en"])]
TIMED: Responses = {200: {"headers": {"Server-Timing": {"$ref": "#/components/headers/Server-Timing"}}}}


def errors(*statuses: int) -> Responses:
    """The error responses of a route; those that every route has are added to what is asked for."""
    return {status: _reference("responses", COMPONENTS[status]) for status in sorted({*ANYWHERE, *statuses})}


def request_examples(**examples: JsonObject) -> JsonObject:
    """Examples of a request body, by name."""
    named = {name: {"value": example} for name, example in examples.items()}
    return {"requestBody": {"content": {"application/json": {"examples": named}}}}


def event_stream() -> Responses:
    """The other form of an answer that is timed: one that is streamed."""
    schema = {"type": "string", "description": EVENTS_MEANING, "contentSchema": _reference("schemas", "TokenEvent")}
    return {200: {**TIMED[200], "content": {EVENTS_TYPE: {"schema": schema, "example": EVENTS}}}}


def completed(document: JsonObject) -> JsonObject:
    """The document of the framework, with what all operations have in common."""
    schemas = {**document["components"]["schemas"], **_event_schemas()}
    paths = {
        path: {method: _completed(path, operation) for method, operation in item.items()}
        for path, item in document["paths"].items()
    }
    components = {
        "schemas": {name: _completed_schema(name, each) for name, each in sorted(schemas.items())},
        "responses": {name: _error(meaning, examples) for name, (meaning, examples) in ERRORS.items()},
        "headers": HEADERS,
        "parameters": PARAMETERS,
        "securitySchemes": {"ApiKey": KEY},
    }
    return {**document, "security": [{"ApiKey": []}], "paths": paths, "components": components}


def _event_schemas() -> JsonObject:
    """What the framework does not find in a route: the data of an event."""
    schema = TokenEvent.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), TokenEvent.__name__: schema}


def _completed_schema(name: str, schema: JsonObject) -> JsonObject:
    """With the fields of its example in their order: pydantic sorts them by name."""
    return {**schema, "examples": [EXAMPLES[name]]} if name in EXAMPLES else schema


def _completed(path: str, operation: JsonObject) -> JsonObject:
    parameters = [*operation.get("parameters", []), *(_reference("parameters", name) for name in PARAMETERS)]
    answers = {**operation["responses"], **_refusals(path, operation["tags"])}
    responses = {status: _with_request_id(answer) for status, answer in sorted(answers.items())}
    without_key: JsonObject = {"security": []} if path in HEALTH else {}
    return {**operation, "parameters": parameters, "responses": responses, **without_key}


def _refusals(path: str, tags: Sequence[str]) -> JsonObject:
    """What is answered to those who may not ask."""
    if path in HEALTH:
        return {}
    statuses = (401, 429, *([403] if ADMINISTRATION in tags else []))
    return {str(status): _reference("responses", COMPONENTS[status]) for status in statuses}


def _with_request_id(response: JsonObject) -> JsonObject:
    if "$ref" in response:
        return {"$ref": response["$ref"]}  # the framework adds a description, which the component has
    return {**response, "headers": {**response.get("headers", {}), **_headers("X-Request-ID")}}


def _error(meaning: str, examples: Sequence[Exception]) -> JsonObject:
    failures = [describe(error) for error in examples]
    content = {
        "schema": _reference("schemas", "Problem"),
        "examples": {failure.slug: {"value": _document(failure)} for failure in failures},
    }
    return {
        "description": meaning,
        "headers": _headers(*failures[0].headers, "X-Request-ID"),
        "content": {MEDIA_TYPE: content},
    }


def _document(failure: Failure) -> JsonObject:
    return failure.document(instance=PROBLEM["instance"], request_id=PROBLEM["request_id"])


def _headers(*names: str) -> JsonObject:
    return {name: _reference("headers", name) for name in names}


def _reference(kind: str, name: str) -> JsonObject:
    return {"$ref": f"#/components/{kind}/{name}"}
