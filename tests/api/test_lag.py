import asyncio
import time

import pytest

from app.api import lag
from app.api.lag import watched

BLOCKED = 0.05


def test_a_loop_that_is_blocked_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "SAMPLE_SECONDS", 0.001)

    async def block() -> float:
        told: asyncio.Queue[float] = asyncio.Queue()
        async with watched(told.put_nowait):
            await asyncio.sleep(0)  # the watcher goes to sleep
            time.sleep(BLOCKED)  # noqa: ASYNC251  # blocking is the point
            return await told.get()

    assert asyncio.run(block()) > BLOCKED / 2


def test_nobody_watches_afterwards() -> None:
    async def tasks_left() -> set[asyncio.Task[None]]:
        async with watched(lambda _lag: None):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(tasks_left()) == set()
