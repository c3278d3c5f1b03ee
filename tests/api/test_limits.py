"""Limits of a key: what is refused fits after exactly the seconds that were told."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.api.limits import Allowance, Limiter
from app.errors import TooLargeError, TooManyRequestsError
from app.keys import Key
from tests.api.sockets import refused_port

AMOUNT = 20


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@contextmanager
def stopped() -> Iterator[Clock]:
    """The time of the library stands still, unless the test moves it."""
    clock = Clock()
    with patch("limits.aio.storage.memory.time", SimpleNamespace(time=clock.time)):
        yield clock


def key(name: str = "one", requests: int | None = AMOUNT, characters: int | None = None) -> Key:
    return Key(name, bytes(32), requests=requests, characters=characters)


async def refusal(allowance: Allowance, cost: int) -> TooManyRequestsError | None:
    try:
        await allowance.take(requests=cost)
    except TooManyRequestsError as error:
        return error
    return None


STEPS = st.lists(st.tuples(st.floats(0, 90), st.integers(1, AMOUNT)), max_size=12)


@given(STEPS, st.integers(1, AMOUNT), st.booleans())
def test_what_is_refused_fits_after_the_seconds_that_were_told_and_not_before(
    steps: list[tuple[float, int]], cost: int, soon: bool
) -> None:
    async def check(clock: Clock) -> None:
        allowance = Allowance(key(), Limiter("memory://"))
        for seconds, each in steps:
            clock.now += seconds
            await refusal(allowance, each)
        refused = await refusal(allowance, cost)
        if refused is None:
            return
        assert refused.quota.unit == "requests"
        assert refused.quota.amount == AMOUNT
        assert 0 <= refused.quota.remaining < cost
        clock.now += refused.retry_after - (1.001 if soon else 0)
        assert (await refusal(allowance, cost) is None) is not soon

    with stopped() as clock:
        asyncio.run(check(clock))


@given(STEPS)
def test_in_no_minute_of_the_clock_more_is_taken_than_the_limit(steps: list[tuple[float, int]]) -> None:
    async def check(clock: Clock) -> None:
        allowance = Allowance(key(), Limiter("memory://"))
        taken: dict[int, int] = {}
        for seconds, each in steps:
            clock.now += seconds
            if await refusal(allowance, each) is None:
                minute = int(clock.now // 60)
                taken[minute] = taken.get(minute, 0) + each
        assert all(each <= AMOUNT for each in taken.values())

    with stopped() as clock:
        asyncio.run(check(clock))


def run(check: Callable[[Limiter], object]) -> None:
    with stopped():
        asyncio.run(check(Limiter("memory://")))  # type: ignore[arg-type]  # a coroutine


def test_every_key_and_every_unit_has_a_limit_of_its_own() -> None:
    async def check(limiter: Limiter) -> None:
        first, second = (Allowance(key(name, 1, 5), limiter) for name in ("one", "two"))
        await first.take(requests=1)
        await first.take(characters=5)
        await second.take(requests=1, characters=5)
        for allowance in (first, second):
            for unit in ("requests", "characters"):
                with pytest.raises(TooManyRequestsError) as caught:
                    await allowance.take(**{unit: 1})
                assert caught.value.quota.unit == unit

    run(check)


def test_a_key_without_a_limit_may_do_all_of_it() -> None:
    async def check(limiter: Limiter) -> None:
        await Allowance(key(requests=None, characters=5), limiter).take(requests=10**9)
        await Allowance(key(requests=5, characters=None), limiter).take(characters=10**9)

    run(check)


def test_what_could_never_be_allowed_is_too_large_and_uses_up_nothing() -> None:
    async def check(limiter: Limiter) -> None:
        allowance = Allowance(key(requests=5), limiter)
        with pytest.raises(TooLargeError):
            await allowance.take(requests=6)
        await allowance.take(requests=5)

    run(check)


def test_requests_side_by_side_take_no_more_than_the_limit() -> None:
    async def check(limiter: Limiter) -> None:
        allowance = Allowance(key(), limiter)
        refusals = await asyncio.gather(*(refusal(allowance, 1) for _ in range(3 * AMOUNT)))
        assert refusals.count(None) == AMOUNT

    run(check)


def test_without_redis_this_process_counts_alone_and_says_so_once() -> None:
    async def check() -> None:
        with refused_port() as port:
            allowance = Allowance(key(requests=2), Limiter(f"redis://:s3cret@127.0.0.1:{port}"))
            with capture_logs() as logged:
                await allowance.take(requests=1)
                await allowance.take(requests=1)
                with pytest.raises(TooManyRequestsError):
                    await allowance.take(requests=1)
        assert [line["event"] for line in logged] == ["limits are counted here alone: Redis failed"]
        assert "s3cret" not in str(logged)

    with stopped():
        asyncio.run(check())
