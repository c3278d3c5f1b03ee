"""Structured logs: one line an event on standard output, JSON or, on a terminal, for people.

A log never stops the service. What cannot be written is dropped: on a full disk, or to a reader who does not read.
"""

import io
import logging
import os
import select
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from structlog.typing import Processor

from app.config import Settings

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STANDARD_OUTPUT = 1
READER_SECONDS = 1.0  # that a reader is waited for, once; after that it is not until it reads again


def configure_logs(settings: Settings) -> None:
    """For the whole process, once, at its start. Libraries that log in the standard way come out in the same form."""
    level = getattr(logging, settings.log_level.upper())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_nothing,
    ]
    renderer = _renderer(settings.log_format)
    output = io.TextIOWrapper(Output(STANDARD_OUTPUT), "utf-8", "backslashreplace", write_through=True)
    handler = logging.StreamHandler(output)
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
        logger_factory=structlog.WriteLoggerFactory(output),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )


def _renderer(log_format: str) -> Processor:
    if log_format == "console" or (log_format == "auto" and sys.stdout.isatty()):
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.JSONRenderer()


def _without_nothing(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: value for name, value in event.items() if value is not None}


class Output(io.BufferedIOBase):
    """Writes to an open file, from any thread. A write never raises and never waits for long."""

    name = "standard output"

    def __init__(self, file: int) -> None:
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, select.POLLOUT)
        self._patience = READER_SECONDS
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        rest = memoryview(data)
        size = len(rest)
        with self._lock, suppress(OSError):
            while rest and self._has_room():
                rest = rest[os.write(self._file, rest[: select.PIPE_BUF]) :]
        return size

    def _has_room(self) -> bool:
        """For as much as a pipe takes at once."""
        found = bool(self._poll.poll(1000 * self._patience))
        self._patience = READER_SECONDS if found else 0.0
        return found


def open_standard_files() -> None:
    """Where one is closed, the next file or socket would get its number, and with it whatever is printed."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(file, True)
    os.close(file)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
