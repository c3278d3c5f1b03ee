"""Structured logs: one line an event on standard output, JSON or, on a terminal, for people."""

import logging
import sys

import structlog
from structlog.typing import Processor

from app.config import Settings


def configure_logs(settings: Settings) -> None:
    """For the whole process, once, at its start. Libraries that log in the standard way come out in the same form."""
    level = getattr(logging, settings.log_level.upper())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_nothing,
    ]
    renderer = _renderer(settings.log_format)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(max(level, logging.WARNING))  # its start and stop are told by our own lines
    # Our own lines do not go through the standard library: there is one for every request.
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def _renderer(log_format: str) -> Processor:
    if log_format == "console" or (log_format == "auto" and sys.stdout.isatty()):
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.JSONRenderer()


def _without_nothing(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: value for name, value in event.items() if value is not None}
