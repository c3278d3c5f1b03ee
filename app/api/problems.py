"""Every error as application/problem+json (RFC 9457), built in one place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.api.record import record_of
from app.errors import (
    FieldError,
    InvalidRequestError,
    OverloadedError,
    RequestError,
    TooManyRequestsError,
    UnauthorizedError,
)

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS_IN_DETAIL = 3
MOST_ERRORS = 50
LONGEST_NAME = 100

# Pydantic's words are for programmers of Python; these are for callers of the API.
PLAIN_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "list_type": "must be a JSON array",
    "string_type": "must be a string",
    "string_unicode": "holds a lone surrogate, which is no Unicode character",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is answered."""

    status: int
    title: str
    slug: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self, *, instance: str, request_id: str) -> dict[str, Any]:
        return {
            "type": f"urn:precis:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "error": self.detail,
            "error_type": self.slug,
            "errors": [{"pointer": error.pointer, "message": error.message} for error in self.errors],
            "request_id": request_id,
        }


def describe(error: BaseException) -> Failure:
    """How an error is answered. Of one that nobody foresaw nothing is told."""
    if isinstance(error, RequestError):
        return Failure(error.status, error.title, error.slug, error.detail, error.errors, _headers(error))
    if isinstance(error, HTTPException):
        return _of_the_framework(error)
    return Failure(500, "Internal server error", "internal-error", "an unexpected error; the log has its request_id")


def invalid(errors: tuple[FieldError, ...]) -> InvalidRequestError:
    """One error for all the fields that are wrong."""
    told = [f"{error.pointer} {error.message}".strip() for error in errors[:MOST_ERRORS_IN_DETAIL]]
    if len(errors) > len(told):
        told.append(f"and {len(errors) - len(told)} more")
    return InvalidRequestError("; ".join(told), errors)


def field_errors(error: ValidationError) -> tuple[FieldError, ...]:
    """The fields that do not fit a schema, in words for callers."""
    told = error.errors(include_url=False, include_context=False, include_input=False)
    return tuple(
        FieldError(_pointer(each["loc"]), PLAIN_MESSAGES.get(each["type"], each["msg"])) for each in told[:MOST_ERRORS]
    )


def respond(request: Request, error: BaseException) -> Response:
    """The answer to a request that failed."""
    failure, record = describe(error), record_of(request)
    record.error = failure.slug
    body = orjson.dumps(failure.document(instance=instance_of(request), request_id=record.request_id))
    return Response(body, failure.status, dict(failure.headers), MEDIA_TYPE)


async def answer_error(request: Request, error: Exception) -> Response:
    """The one exception handler of the application."""
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error = HTTPException(error.status_code, headers={"Allow": ", ".join(_allowed(request))})
    return respond(request, error)


def instance_of(request: Request) -> str:
    return quote(request.scope["path"], errors="replace")


def printable(name: str) -> str:
    """A caller's own name for something, fit to be told back: short and encodable."""
    shown = name.encode("utf-8", "replace").decode()
    return shown if len(shown) <= LONGEST_NAME else shown[:LONGEST_NAME] + "…"


def _headers(error: RequestError) -> dict[str, str]:
    if isinstance(error, OverloadedError):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, TooManyRequestsError):
        quota = error.quota
        return {
            "Retry-After": str(error.retry_after),
            "RateLimit": f'"{quota.unit}";r={quota.remaining};t={error.retry_after}',
            "RateLimit-Policy": f'"{quota.unit}";q={quota.amount};w={quota.seconds}',
        }
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, UnauthorizedError) else {}


def _pointer(location: tuple[str | int, ...]) -> str:
    """RFC 6901."""
    names = (printable(str(part)).replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{name}" for name in names)


def _of_the_framework(error: HTTPException) -> Failure:
    phrase = HTTPStatus(error.status_code).phrase
    headers = dict(error.headers or {})
    slug = phrase.lower().replace(" ", "-")
    if error.status_code == HTTPStatus.NOT_FOUND:
        return Failure(404, phrase, slug, "there is no such route; /docs lists those there are")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": _with_head(headers.get("Allow", ""))}
        return Failure(405, phrase, slug, f"this route answers only {headers['Allow']}", headers=headers)
    return Failure(error.status_code, phrase, slug, str(error.detail), headers=headers)


def _allowed(request: Request) -> set[str]:
    """Methods of all the routes of this path: the framework tells those of the first one."""
    path = request.scope["route"].path
    same = (each for each in iter_route_contexts(request.app.routes) if each.path == path)
    return {method for each in same for method in each.methods or ()}


def _with_head(allowed: str) -> str:
    methods = {method.strip() for method in allowed.split(",")}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
