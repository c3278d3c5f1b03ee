"""What goes wrong on purpose, and when: lanes that are killed or stand still."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from benchmarks.processes import age, lanes

GROWN_SECONDS = 10.0  # a lane is up and running at this age
KILLED = 0.7  # of the faults; in the others a lane stands still
STILL_SECONDS = 3.0  # at most: far from the time after which it would be replaced


async def now_and_then(
    mean_seconds: float, source: random.Random, over: asyncio.Event, act: Callable[[], Awaitable[None]]
) -> None:
    """At random moments (Poisson), until it is over."""
    while not over.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), source.expovariate(1 / mean_seconds))
        if not over.is_set():
            await act()


async def disturb_a_lane(pid: int, source: random.Random) -> str:
    """What was done. Of the lanes that are up the youngest is chosen, so that the others grow old."""
    grown = {lane: seconds for lane in lanes(pid) if (seconds := age(lane)) > GROWN_SECONDS}
    if not grown:
        return "no lane was up"
    lane = min(grown, key=lambda each: (grown[each], each))
    if source.random() < KILLED:
        os.kill(lane, signal.SIGKILL)
        return "lane killed"
    os.kill(lane, signal.SIGSTOP)
    try:
        await asyncio.sleep(source.uniform(0.1, STILL_SECONDS))
    finally:
        with suppress(ProcessLookupError):
            os.kill(lane, signal.SIGCONT)
    return "lane stopped for a while"
