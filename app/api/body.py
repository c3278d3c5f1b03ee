"""Reads a body strictly: its type, its size while it arrives, and JSON that means one thing only."""

import itertools
import json
import time
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from functools import cached_property
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]  # what arrays and objects are read by
from json.scanner import py_make_scanner  # type: ignore[attr-defined]  # the stubs know only the other one
from typing import Any
from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.problems import field_errors, invalid, printable
from app.api.record import record_of
from app.api.service import Service, service_of
from app.api.threads import by_size
from app.config import Settings
from app.errors import FieldError, MalformedBodyError, RetiredError, TooLargeError, UnsupportedMediaTypeError
from app.schemas import Sent

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Scan = Callable[[str, int], tuple[object, int]]  # the value that begins there, and where it ends
READ_AT_ONCE = 64 * 1024  # bytes
HUGE = 1024 * 1024  # bytes: read one at a time, for with one wide character it takes five times as much for a moment
MOST_FIELDS = 64  # of one object: keeps a hostile body from becoming as many error messages
MOST_VALUES = 100_000  # of one body: an empty array takes two bytes of it, and sixty of our memory


class StrictRoute(APIRoute):
    """Refuses query parameters that nobody reads, and reads JSON bodies as this file says.

    A route with a body is called here as `endpoint(body, request, service)`, with what its path names beside them:
    what the framework would do for each request, beyond what its declaration tells the OpenAPI document, costs more
    than all the rest of a route. One such request is begun each time the event loop goes round, however many come at
    once.
    """

    @staticmethod
    def body_limit(settings: Settings) -> int:
        return settings.max_body_bytes

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.body_field is None or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            refuse_query(request.scope["query_string"])
            return await handle(request)

        return handle_strictly

    async def _answer(self, request: Request) -> Response:
        refuse_query(request.scope["query_string"])
        check_media_type(request)
        service = service_of(request)
        sent = await self._read(request, service)
        while True:
            with suppress(RetiredError):  # between its finding and its work: nothing is begun, the next one does it
                response: Response = await self.endpoint(sent, request, service, **request.path_params)
                return response

    async def _read(self, request: Request, service: Service) -> Sent:
        """The body as an object. Nothing of its bytes is left: the caller may wait for a long time."""
        with service.bodies.share() as need:
            body = await read_body(request, self.body_limit(service.settings), need, service)
            record_of(request).received = time.perf_counter()
            await service.line.turn()
            async with service.huge_bodies if len(body) > HUGE else nullcontext():
                return await by_size(len(body), READ_AT_ONCE, lambda: _validated(self._model, parse_json(body)))

    @cached_property
    def _model(self) -> type[Sent]:
        assert self.body_field is not None
        model = self.body_field.field_info.annotation
        assert isinstance(model, type) and issubclass(model, Sent)  # noqa: PT018  # one fact, for the type checker
        return model


class BatchRoute(StrictRoute):
    """Many texts need a larger body."""

    @staticmethod
    def body_limit(settings: Settings) -> int:
        return settings.max_batch_body_bytes


def refuse_query(query_string: bytes) -> None:
    if not query_string:
        return
    names = dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True))
    if names:
        unknown = tuple(FieldError("", f"unknown query parameter {printable(name)!r}") for name in list(names)[:5])
        raise invalid(unknown)


def check_media_type(request: Request) -> None:
    """`application/json` or `application/*+json`, in UTF-8, not compressed."""
    media_type, *parameters = request.headers.get("content-type", "").lower().split(";")
    main, _, subtype = media_type.strip().partition("/")
    if main != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise UnsupportedMediaTypeError("send the body as JSON, with the header 'Content-Type: application/json'")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise UnsupportedMediaTypeError("JSON is always UTF-8; leave the charset out or send utf-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("compressed bodies are not accepted; send it without Content-Encoding")


async def read_body(request: Request, limit: int, need: Callable[[int], bool], service: Service) -> bytearray:
    """At most `limit` bytes, whatever Content-Length says, and as many as there is room for beside other bodies."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise _too_large(limit)
        if not need(len(body) + len(chunk)):
            raise service.refusal("bodies")
        body += chunk
    return body


def parse_json(body: bytes | bytearray) -> object:
    """NaN and Infinity pass here: no field takes them, so that the error can name the field."""
    decoder = _DECODER if len(body) <= READ_AT_ONCE else _yielding_decoder()
    try:
        return decoder.decode(body.decode())
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"the body is not UTF-8: wrong byte at position {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise MalformedBodyError(f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise MalformedBodyError("the body is nested too deeply") from None
    except ValueError:
        raise MalformedBodyError("the body holds a number with too many digits") from None


def _validated(model: type[Sent], parsed: object) -> Sent:
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise invalid(field_errors(error)) from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MOST_FIELDS:
        raise invalid((FieldError("", f"an object has {len(pairs)} fields; no object has more than {MOST_FIELDS}"),))
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise invalid((FieldError("", f"field {printable(twice)!r} appears twice"),))


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _yielding_decoder() -> Any:
    """Reads and counts every value, not the whole body, in one go: meanwhile the event loop would wait, though it is
    another thread."""
    decoder: Any = json.JSONDecoder(object_pairs_hook=_object)  # the stubs do not know what it reads by
    numbers = itertools.count(1)

    def counted(scan: Scan) -> Scan:
        def scan_next(text: str, index: int) -> tuple[object, int]:
            if next(numbers) > MOST_VALUES:
                raise TooLargeError(f"the body holds more than {MOST_VALUES} values")
            return scan(text, index)

        return scan_next

    decoder.parse_array = lambda state, scan: JSONArray(state, counted(scan))
    decoder.parse_object = lambda state, strict, scan, *how: JSONObject(state, strict, counted(scan), *how)
    decoder.scan_once = py_make_scanner(decoder)
    return decoder


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {limit} bytes")
