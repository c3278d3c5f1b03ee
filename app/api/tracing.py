"""Whether requests are traced: where the standard OTEL_* variables name a collector and the extra `otel` is installed.

Nothing of OpenTelemetry's SDK is imported otherwise, and a request costs one comparison.
"""

from collections.abc import Mapping
from typing import Protocol

import structlog
from starlette.types import Scope

from app.api.record import Record

log = structlog.get_logger("precis")


class Tracing(Protocol):
    """Tells somebody else what became of each request."""

    def record(self, scope: Scope, record: Record, route: str | None, status: int) -> None:
        """A request that is over; its record then has the ids of its span."""

    def close(self) -> None:
        """Send what is left, or give up soon."""


def open_tracing(environment: Mapping[str, str]) -> Tracing | None:
    """What is wrong with it is told by a line in the log: the service does its work without."""
    if not _wanted(environment):
        return None
    try:
        from app.api.spans import Spans

        return Spans.exported()
    except ImportError as error:
        log.warning("no traces: the extra 'otel' is not installed", missing=error.name)
    except ValueError as error:
        log.warning("no traces: a variable OTEL_* is wrong", reason=str(error))
    return None


def _wanted(environment: Mapping[str, str]) -> bool:
    """OpenTelemetry's own default is a collector on this host; here nothing is sent that nobody asked for."""
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    refused = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    return any(environment.get(name) for name in endpoints) and not disabled and not refused
