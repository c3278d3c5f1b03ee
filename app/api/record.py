"""What one request leaves behind for its log line; never any text."""

import random
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.requests import Request

from app.api.limits import Allowance
from app.engine.request import Timing

_IDS = random.Random()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")


@dataclass(slots=True)
class Record:
    """Filled in by the routes as they learn more. Moments are those of `time.perf_counter`."""

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    trace_id: str | None = None
    parent_id: str | None = None
    span_id: str | None = None
    texts: int = 0
    characters: int = 0
    key: str | None = None  # the name of the one that the caller has shown
    allowance: Allowance | None = None  # of that key, if it has limits
    error: str | None = None
    status: int | None = None  # of what went wrong after the answer had begun
    timing: Timing | None = None
    answered: float = 0.0

    async def ask(self, texts: int, characters: int) -> None:
        """The caller asks for so much; raises TooManyRequestsError when that is more than its key may."""
        self.texts, self.characters = texts, characters
        if self.allowance is not None:
            await self.allowance.take(requests=texts - 1, characters=characters)  # one was taken on arrival

    def answer(self, timings: Iterable[Timing]) -> None:
        """The engine is done. Of several texts, the one that took longest tells where the time went."""
        self.timing = max(timings, key=lambda timing: timing.total_ms, default=None)
        self.answered = time.perf_counter()

    def trace(self) -> dict[str, str]:
        """The fields that tie a log line to the caller's trace."""
        fields = {"trace_id": self.trace_id, "span_id": self.span_id, "parent_id": self.parent_id}
        return {name: value for name, value in fields.items() if value is not None}


def open_record(headers: Headers) -> Record:
    """The caller's request id when it is well formed, else a new one; the caller's trace is continued.

    An id need not be secret, only unique: asking the kernel for random bytes would cost more than all of this.
    """
    given = headers.get("x-request-id", "")
    record = Record(given if _REQUEST_ID.fullmatch(given) else f"{_IDS.getrandbits(128):032x}")
    if trace := _TRACEPARENT.fullmatch(headers.get("traceparent", "")):
        record.trace_id, record.parent_id = trace.groups()
        record.span_id = secrets.token_hex(8)
    return record


def record_of(request: Request) -> Record:
    record: Record = request.state.record
    return record
