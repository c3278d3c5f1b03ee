"""Requests begin in turn, so that many who come at once do not keep the event loop from everything else."""

import asyncio
import time
from collections import deque

USUAL_WAIT = 0.25  # seconds in which all who are in line should have their turn, though the loop goes round slowly
MOST_AT_ONCE = 16  # about ten milliseconds, for which the loop does nothing else
LONGEST_WAIT = 1.0  # seconds; where callers wait longer than that, new ones are refused


class Line:
    """First come, first served: one each time the loop goes round, and a few more where it goes round slowly."""

    def __init__(self) -> None:
        self._line: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._called = 0.0  # when somebody was last called
        self._waited = 0.0  # seconds, by whoever was called last

    @property
    def too_long(self) -> bool:
        """Whether callers wait so long for their turn that it is kinder to send new ones away at once."""
        return bool(self._line) and self._waited > LONGEST_WAIT

    async def turn(self) -> None:
        """Whoever comes back from here may begin work."""
        loop, now = asyncio.get_running_loop(), time.monotonic()
        if not self._line:
            self._called = now
            loop.call_soon(self._call)
        turn: asyncio.Future[None] = loop.create_future()
        self._line.append((now, turn))
        await turn

    def _call(self) -> None:
        now = time.monotonic()
        due = 1 + int(len(self._line) * (now - self._called) / USUAL_WAIT)
        self._called = now
        for _ in range(min(due, MOST_AT_ONCE, len(self._line))):
            came, turn = self._line.popleft()
            self._waited = now - came
            if not turn.done():  # who has left is cancelled
                turn.set_result(None)
        if self._line:
            asyncio.get_running_loop().call_soon(self._call)
