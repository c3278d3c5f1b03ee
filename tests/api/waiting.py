"""Waiting for another thread or process: bounded, and never judged by how long it took."""

import asyncio
import time
from collections.abc import Callable

PATIENCE = 120.0


def eventually(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds; fail when it never does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.005)


class Rounds:
    """Counts how often an event loop goes round, while `go` runs in it."""

    count = 0

    async def go(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)
