"""Measures the event loop: how late it wakes a task that slept. What blocks the loop makes every caller wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

SAMPLE_SECONDS = 0.1


@asynccontextmanager
async def watched(observe: Callable[[float], None]) -> AsyncIterator[None]:
    """Tells `observe` a lag in seconds ten times a second."""
    watching = asyncio.create_task(_watch(observe))
    try:
        yield
    finally:
        watching.cancel()


async def _watch(observe: Callable[[float], None]) -> None:
    while True:
        slept = time.perf_counter()
        await asyncio.sleep(SAMPLE_SECONDS)
        observe(max(0.0, time.perf_counter() - slept - SAMPLE_SECONDS))
