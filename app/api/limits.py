"""How much a key may ask for in a minute: counted in this process, or in Redis for all replicas together.

The window slides: what was used in the minute before counts by how much of it still lies within the last 60 seconds.
What is refused uses up nothing.
"""

import time
from dataclasses import dataclass

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, SlidingWindowCounterSupport
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from app.errors import Quota, TooLargeError, TooManyRequestsError
from app.keys import Key

WINDOW_SECONDS = 60
STORAGE_SECONDS = 0.5  # a request waits no longer for Redis
PAUSE_SECONDS = 10.0  # after Redis has failed nobody waits for it
OF_REDIS: dict[str, float | str | bool] = {
    "implementation": "redispy",
    "wrap_exceptions": True,
    "socket_timeout": STORAGE_SECONDS,
    "socket_connect_timeout": STORAGE_SECONDS,
}
log = structlog.get_logger("precis")


class Limiter:
    """While Redis cannot be reached, this process counts by itself: a limit is there to be fair, not to be right."""

    def __init__(self, uri: str) -> None:
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = None if uri.startswith("memory") else _shared(uri)
        self._pause_until = 0.0

    async def take(self, key: Key, unit: str, amount: int, cost: int) -> None:
        """Use up `cost` of the `amount` of requests or characters that a key has in a minute, or raise why not."""
        if cost > amount:
            raise TooLargeError(f"more {unit} at once than this key may send in a minute, which is {amount}")
        if (wait := await self._wait(key.name, unit, amount, cost)) is not None:
            seconds, remaining = wait
            raise TooManyRequestsError(
                f"this key may send {amount} {unit} a minute; try again in {seconds} s",
                seconds,
                Quota(unit, amount, remaining, WINDOW_SECONDS),
            )

    async def _wait(self, name: str, unit: str, amount: int, cost: int) -> tuple[int, int] | None:
        if self._shared is not None and time.monotonic() >= self._pause_until:
            try:
                return await _hit(self._shared, name, unit, amount, cost)
            except StorageError as error:
                self._pause_until = time.monotonic() + PAUSE_SECONDS
                log.error("limits are counted here alone: Redis failed", kind=type(error.storage_error).__name__)
        return await _hit(self._own, name, unit, amount, cost)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key with limits may still do."""

    key: Key
    limiter: Limiter

    async def take(self, *, requests: int = 0, characters: int = 0) -> None:
        """Raises TooManyRequestsError, or TooLargeError for what could never be allowed."""
        for unit, amount, cost in (
            ("requests", self.key.requests, requests),
            ("characters", self.key.characters, characters),
        ):
            if amount is not None and cost > 0:
                await self.limiter.take(self.key, unit, amount, cost)


async def _hit(
    limiter: SlidingWindowCounterRateLimiter, name: str, unit: str, amount: int, cost: int
) -> tuple[int, int] | None:
    """None, or the seconds to wait and what is left now."""
    item = RateLimitItemPerMinute(amount, namespace="precis")
    if await limiter.hit(item, name, unit, cost=cost):
        return None
    storage = limiter.storage
    assert isinstance(storage, SlidingWindowCounterSupport)
    before, before_ends, now, now_ends = await storage.get_sliding_window(item.key_for(name, unit), WINDOW_SECONDS)
    left = amount - now - int(before * before_ends / WINDOW_SECONDS)
    return seconds_until(cost, amount, before, before_ends, now, now_ends - WINDOW_SECONDS), max(0, left)


def seconds_until(cost: int, amount: int, before: int, before_ends: float, now: int, now_ends: float) -> int:
    """Whole seconds until there is room for `cost`, if nobody else comes.

    before, now: used in the minute before and in this one. before_ends: seconds until the first counts no more.
    now_ends: seconds until this minute is the one before.
    """
    room = amount - cost - now
    if room < 0:
        return int(now_ends + max(0.0, _fades(now, WINDOW_SECONDS, amount - cost))) + 1
    return int(max(0.0, _fades(before, before_ends, room))) + 1


def _fades(count: int, ends: float, room: int) -> float:
    """Seconds until what is left of `count`, rounded down, is no more than `room`."""
    return ends - (room + 1) * WINDOW_SECONDS / max(1, count)


def _shared(uri: str) -> SlidingWindowCounterRateLimiter:
    return SlidingWindowCounterRateLimiter(storage_from_string(f"async+{uri}", **OF_REDIS))
