"""One server span for each request, and where its time went: OpenTelemetry, sent by OTLP over HTTP.

Spans are made when a request is over, from its record, so that nothing is carried along meanwhile. They hold numbers
and names that are ours, and the caller's request id; no path, no header, nothing of a body.
"""

import threading
import time
from collections.abc import Iterator
from http import HTTPMethod, HTTPStatus
from typing import Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    SpanKind,
    StatusCode,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import Scope

from app import __version__
from app.api.record import Record
from app.engine.request import Timing

SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"  # its names for HTTP are those used here
CLOSING_SECONDS = 5.0  # for the last spans; a collector that is away would take the SDK half a minute
METHODS = {method.value for method in HTTPMethod}
Attributes = dict[str, str | int]


class Spans:
    """Makes spans with a provider of its own: nothing is global."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("precis", __version__, SCHEMA_URL)
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def exported(cls) -> Self:
        """As the environment says: where to, how often, how many, under which name."""
        ours = Resource({SERVICE_NAME: "precis", SERVICE_VERSION: __version__})
        told = Resource.create()
        named = not str(told.attributes[SERVICE_NAME]).startswith("unknown_service")
        provider = TracerProvider(resource=ours.merge(told) if named else told.merge(ours), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def record(self, scope: Scope, record: Record, route: str | None, status: int) -> None:
        now = time.perf_counter()
        calendar = time.time_ns() - _nanoseconds(now)  # what is to be added to a moment of the performance counter
        parent = self._propagator.extract(Headers(scope=scope))
        span = self._tracer.start_span(
            _name(scope["method"], route),
            parent,
            SpanKind.SERVER,
            {**_of_http(scope, route, status), **_of_texts(record)},
            start_time=calendar + _nanoseconds(record.started),
        )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_attribute("error.type", record.error or str(status))
            span.set_status(StatusCode.ERROR)
        if record.timing:
            self._record_phases(set_span_in_context(span), record.timing, calendar + _nanoseconds(record.answered))
        span.end(calendar + _nanoseconds(now))
        own, above = span.get_span_context(), get_current_span(parent).get_span_context()
        record.trace_id, record.span_id = format_trace_id(own.trace_id), format_span_id(own.span_id)
        record.parent_id = format_span_id(above.span_id) if above.is_valid else None

    def close(self) -> None:
        closing = threading.Thread(target=self._provider.shutdown, name="precis-spans", daemon=True)
        closing.start()
        closing.join(CLOSING_SECONDS)

    def _record_phases(self, parent: Context, timing: Timing, end: int) -> None:
        for name, begins, ends in phases(timing):
            span = self._tracer.start_span(name, parent, start_time=end - _nanoseconds(begins))
            span.end(end - _nanoseconds(ends))


def phases(timing: Timing) -> Iterator[tuple[str, float, float]]:
    """Name, beginning and end of each phase, in seconds before the end of all.

    The parts of a long text run side by side, and their times are sums: encoding and decoding then divide what is left
    after waiting in the proportion of these.
    """
    working = timing.total_ms - timing.queue_ms
    spent = timing.encode_ms + timing.decode_ms
    decoding = working * (timing.decode_ms / spent) if spent else 0.0
    yield "queue", timing.total_ms / 1000, working / 1000
    yield "encode", working / 1000, decoding / 1000
    yield "decode", decoding / 1000, 0.0


def _name(method: str, route: str | None) -> str:
    known = method if method in METHODS else "HTTP"
    return f"{known} {route}" if route else known


def _of_http(scope: Scope, route: str | None, status: int) -> Attributes:
    return {
        "http.request.method": scope["method"] if scope["method"] in METHODS else "_OTHER",
        "http.response.status_code": status,
        "network.protocol.version": scope["http_version"],
        "url.scheme": scope["scheme"],
        **({"http.route": route} if route else {}),
    }


def _of_texts(record: Record) -> Attributes:
    counted = {"precis.texts": record.texts, "precis.characters": record.characters} if record.texts else {}
    return {"precis.request_id": record.request_id, **counted}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
